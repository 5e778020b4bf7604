"""Checks of the local network."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from failshut.config.addresses import is_local, is_wider
from failshut.config.checks.view import WIDEST, View, beside_the_tunnels, not_routed, overlap
from failshut.config.locate import Path
from failshut.model.finding import Code, Finding, Severity


def lan_is_somewhere(view: View) -> Iterator[Finding]:
    """Refuse a LAN without a network."""
    lan = view.declaration.document.allow.lan
    here: Path = ("allow", "lan")
    if lan and not (lan.prefixes or lan.routed) and not view.declaration.is_damaged(*here):
        remedy = 'name your network: prefixes = ["192.168.1.0/24"]'
        yield view.declaration.finding(here, Code.MISSING_KEY, "the LAN has no prefix", remedy)


def lan_is_narrow(view: View) -> Iterator[Finding]:
    """Refuse a LAN that is half the Internet; warn of a public one."""
    for at, prefix in view.lan():
        if not_routed(prefix):
            what = "multicast" if prefix.is_multicast else "the loopback"
            remedy = "use multicast = true" if prefix.is_multicast else "remove it: loopback is never touched"
            yield view.declaration.finding(at, Code.BAD_VALUE, f"{prefix} is {what}, not a network's prefix", remedy)
        elif is_wider(prefix, *WIDEST):
            message = f"{prefix} is no local network: everything in it would leave in the clear"
            remedy = "name your own network, such as 192.168.1.0/24; at most a /8 (IPv4) or /16 (IPv6)"
            yield view.declaration.finding(at, Code.TOO_WIDE, message, remedy)
        elif not is_local(prefix):
            message = (
                f"{prefix} is public: a Wi-Fi that hands out such addresses draws that traffic out of the tunnel (TunnelCrack)"
            )
            remedy = "keep it only if this network is your own"
            yield view.declaration.finding(at, Code.PUBLIC_LAN, message, remedy, Severity.WARNING)


def lan_is_beside_the_tunnel(view: View) -> Iterator[Finding]:
    """Refuse a LAN prefix over an endpoint or a tunnel's own address."""
    for at, prefix in view.lan():
        yield from beside_the_tunnels(view, at, prefix, "the LAN prefix")


def lan_is_here_or_there(view: View) -> Iterator[Finding]:
    """Refuse a network that is both on the link and behind a router: which hop limit its packets get would be chance."""
    sites = list(view.lan())
    for at, prefix in sites:
        for other_at, other in sites:
            if at[2] == "routed" and other_at[2] == "prefixes" and overlap(prefix, other):
                message = f"{prefix} is behind a router, and {other} ({view.declaration.where(other_at)}) on the link"
                yield view.declaration.finding(at, Code.CONTRADICTION, message, "name each network once, where it is")


def lan_interfaces_are_no_tunnels(view: View) -> Iterator[Finding]:
    """Refuse a tunnel as the LAN's interface; warn of names in upper case, which no device of today has."""
    lan = view.declaration.document.allow.lan
    for index, pattern in enumerate(lan.interfaces if lan else ()):
        at: Path = ("allow", "lan", "interfaces", index)
        for built in view.tunnels:
            if fnmatchcase(built.name, pattern):
                message = f"the LAN's interface '{pattern}' is the tunnel {built.name} ({view.declaration.where(built.path)})"
                yield view.declaration.finding(at, Code.CONTRADICTION, message, "name the underlay's interfaces: eth0, wl*")
        if pattern.isupper():
            message = f"'{pattern}' matches no interface in lower case"
            yield view.declaration.finding(at, Code.BAD_VALUE, message, f"did you mean '{pattern.lower()}'?", Severity.WARNING)

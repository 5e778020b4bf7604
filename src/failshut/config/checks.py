"""What contradicts itself, or opens more than anyone can mean. Each check is one function; `CHECKS` is the list of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_network

from failshut.config.declaration import Declaration, Sources
from failshut.config.locate import Path
from failshut.config.tunnels import Built, effective_mark
from failshut.config.values import is_wider
from failshut.model.finding import Code, Finding, Severity
from failshut.model.marks import ARRIVAL, STAMP, TAILSCALE, TAILSCALE_MASK
from failshut.model.units import Prefix

# The prefixes that nobody routes on the Internet: RFC 1918, link-local, RFC 6598, ULA.
_LOCAL = tuple(
    ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10")
)
# Wider than any network that one cable or one radio reaches.
_WIDEST_LAN = (8, 16)
_WIDEST_OUTBOUND = (8, 16)
# net.ipv4.ip_unprivileged_port_start, as the kernel sets it.
_FIRST_UNPRIVILEGED = 1024
# DNS, and DNS over TLS.
_NAME_PORTS = (53, 853)


@dataclass(frozen=True, slots=True)
class View:
    """Everything a check may look at."""

    declaration: Declaration
    sources: Sources
    tunnels: list[Built]

    def prefixes(self) -> Iterator[tuple[Path, Prefix]]:
        """Yield the LAN's prefixes with their paths."""
        lan = self.declaration.document.allow.lan
        for index, each in enumerate(lan.prefixes if lan else ()):
            yield ("allow", "lan", "prefixes", index), each


def is_local(prefix: Prefix) -> bool:
    """Return whether all of `prefix` is private, link-local or shared address space."""
    return any(prefix.version == each.version and prefix.subnet_of(each) for each in _LOCAL)  # type: ignore[arg-type]  # versions agree


def some_tunnel(view: View) -> Iterator[Finding]:
    """Refuse a policy without a tunnel: it would block everything, for good."""
    if not view.tunnels and not view.declaration.is_damaged("tunnel") and not view.declaration.is_damaged():
        remedy = 'add [tunnel.wg0] with config = "/etc/wireguard/wg0.conf"; `failshut init` writes one'
        yield view.declaration.finding((), Code.NO_TUNNEL, "the policy names no tunnel", remedy)


def marks_are_free(view: View) -> Iterator[Finding]:
    """Refuse a fwmark in the lock's own bits; warn of one that the config contradicts."""
    for built in view.tunnels:
        mark = effective_mark(built)
        said_here = "fwmark" in built.table.model_fields_set
        at = (*built.path, "fwmark") if said_here else built.path
        if mark & (STAMP | ARRIVAL):
            message = f"the fwmark {mark} of {built.name} uses bits that the lock keeps for itself ({ARRIVAL})"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, "use a mark below 0x01000000, such as 0xca6c")
        own = built.config.fwmark if built.config else None
        if said_here and built.config and own is not None and own != mark:
            message = f"the policy's fwmark is {mark}, but {built.config.path}:{built.config.fwmark_line} sets {own}"
            remedy = f"after a restart {built.name} carries {own} and its handshakes are refused: make both the same"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy, Severity.WARNING)


def endpoints_are_elsewhere(view: View) -> Iterator[Finding]:
    """Warn of an endpoint on this very machine: the lock must know where that relay sends to."""
    for built in view.tunnels:
        for each in built.endpoints:
            if each.value.address.is_loopback:
                message = f"the endpoint {each.value} ({each.where}) is this machine: a relay carries the tunnel on"
                remedy = "allow the relay's own server with [[allow.outbound]], or nothing will leave"
                yield view.declaration.finding(built.path, Code.BAD_ENDPOINT, message, remedy, Severity.WARNING)


def lan_is_narrow(view: View) -> Iterator[Finding]:
    """Refuse a LAN that is half the Internet; warn of a public one."""
    for at, prefix in view.prefixes():
        if prefix.is_multicast or prefix.is_loopback:
            what = "multicast" if prefix.is_multicast else "the loopback"
            remedy = "use multicast = true" if prefix.is_multicast else "remove it: loopback is never touched"
            yield view.declaration.finding(at, Code.BAD_VALUE, f"{prefix} is {what}, not a network's prefix", remedy)
        elif is_wider(prefix, *_WIDEST_LAN):
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
    """Refuse a LAN prefix that opens the way to an endpoint, or to a tunnel's own address, for every program."""
    for at, prefix in view.prefixes():
        if is_wider(prefix, *_WIDEST_LAN):
            continue
        for built in view.tunnels:
            for endpoint in built.endpoints:
                if endpoint.value.address in prefix:
                    message = f"the LAN prefix {prefix} covers {built.name}'s endpoint {endpoint.value} ({endpoint.where})"
                    remedy = "any program could then talk to it in the clear: name prefixes around it; the handshake needs none"
                    yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy)
            for address in built.addresses:
                if address.value.ip in prefix:
                    message = f"the LAN prefix {prefix} covers {built.name}'s own address {address.value.ip} ({address.where})"
                    remedy = "what is meant for the tunnel would count as LAN: name narrower prefixes"
                    yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy)


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


def names_are_unique(view: View) -> Iterator[Finding]:
    """Refuse a name given twice: it stands for one allowance in `status` and in the rules' comments."""
    allow = view.declaration.document.allow
    seen: dict[str, Path] = {}
    sites: list[tuple[Path, str]] = [(("allow", "inbound", index, "name"), each.name) for index, each in enumerate(allow.inbound)]
    sites += [(("allow", "outbound", index, "name"), each.name) for index, each in enumerate(allow.outbound)]
    for at, name in sites:
        if name in seen:
            message = f"the name '{name}' is already taken ({view.declaration.where(seen[name])})"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, "give each allowance a name of its own")
        seen.setdefault(name, at)


def services_are_unique(view: View) -> Iterator[Finding]:
    """Refuse two entries for one service: each would hide the other's `from`."""
    seen: dict[tuple[str, int], Path] = {}
    for index, each in enumerate(view.declaration.document.allow.inbound):
        at: Path = ("allow", "inbound", index)
        key = (each.protocol, each.port)
        if key in seen:
            message = f"{each.protocol} port {int(each.port)} is already allowed ({view.declaration.where(seen[key])})"
            yield view.declaration.finding((*at, "port"), Code.CONTRADICTION, message, "put both lists of `from` into one entry")
        seen.setdefault(key, at)


def services_say_whom_they_serve(view: View) -> Iterator[Finding]:
    """Warn of a service for everyone on a port that any program may hold: a forged caller chooses whom that program writes to."""
    for index, each in enumerate(view.declaration.document.allow.inbound):
        if not each.sources and each.port >= _FIRST_UNPRIVILEGED:
            message = f"'{each.name}' serves whoever calls, on a port that any program may hold"
            remedy = (
                "whoever can forge a call chooses an address that such a program may then write to: name your callers in `from`"
            )
            yield view.declaration.finding(("allow", "inbound", index), Code.OPEN_SERVICE, message, remedy, Severity.WARNING)


def exceptions_are_pinned(view: View) -> Iterator[Finding]:
    """Refuse an exception for half the Internet, for a tunnel's endpoint, or for a user who does not exist."""
    for index, each in enumerate(view.declaration.document.allow.outbound):
        at: Path = ("allow", "outbound", index)
        for place, prefix in enumerate(each.to):
            if is_wider(prefix, *_WIDEST_OUTBOUND):
                message = f"{prefix} is no pinned exception: port {int(each.port)} of everything in it would leave in the clear"
                yield view.declaration.finding((*at, "to", place), Code.TOO_WIDE, message, "name the servers' addresses")
                continue
            for built in view.tunnels:
                for endpoint in built.endpoints:
                    site = endpoint.value
                    if site.address in prefix and (site.protocol, site.port) == (each.protocol, each.port):
                        message = f"'{each.name}' opens {built.name}'s endpoint {site} ({endpoint.where}) to other programs"
                        remedy = "remove it: the handshake is allowed already, and only to the tunnel"
                        yield view.declaration.finding((*at, "to", place), Code.CONTRADICTION, message, remedy)
        if isinstance(each.user, str) and view.sources.users.get(each.user) is None:
            message = f"there is no user '{each.user}' on this machine"
            yield view.declaration.finding(
                (*at, "user"), Code.UNKNOWN_USER, message, "`getent passwd` lists them; a number works too"
            )


def tailscale_is_apart(view: View) -> Iterator[Finding]:
    """Refuse name look-ups as Tailscale's, and a tunnel whose mark or name tailscaled takes for its own."""
    table = view.declaration.document.allow.tailscale
    if table is None:
        return
    for index, port in enumerate(table.tcp):
        if port in _NAME_PORTS:
            message = f"port {int(port)} is for name look-ups: tailscaled would carry those of every program out of the tunnel"
            remedy = "remove it: names are looked up through the tunnel"
            yield view.declaration.finding(("allow", "tailscale", "tcp", index), Code.CONTRADICTION, message, remedy)
    for place, prefix in enumerate(table.servers):
        if is_wider(prefix, *_WIDEST_OUTBOUND):
            message = f"{prefix} names no servers: it is a good part of the Internet"
            yield view.declaration.finding(
                ("allow", "tailscale", "servers", place), Code.TOO_WIDE, message, "name the servers' addresses, or remove `servers`"
            )
    for built in view.tunnels:
        if effective_mark(built) & TAILSCALE_MASK == TAILSCALE:
            message = f"{built.name}'s fwmark {effective_mark(built)} is one that tailscaled takes for its own ({TAILSCALE})"
            yield view.declaration.finding(("allow", "tailscale"), Code.CONTRADICTION, message, f"give {built.name} another mark")


CHECKS: tuple[Callable[[View], Iterator[Finding]], ...] = (
    some_tunnel,
    marks_are_free,
    endpoints_are_elsewhere,
    lan_is_narrow,
    lan_is_beside_the_tunnel,
    lan_interfaces_are_no_tunnels,
    names_are_unique,
    services_are_unique,
    services_say_whom_they_serve,
    exceptions_are_pinned,
    tailscale_is_apart,
)

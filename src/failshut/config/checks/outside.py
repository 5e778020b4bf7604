"""Checks of what stays outside the tunnel, and of what is routed into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from failshut.config.addresses import is_wider
from failshut.config.checks.view import WIDEST, View, beside_the_tunnels, not_routed, overlap
from failshut.config.locate import Path
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import ForwardMode
from failshut.model.units import Prefix


def outside_is_narrow(view: View) -> Iterator[Finding]:
    """Refuse half the Internet outside of the tunnel, an endpoint, or what is the LAN already."""
    outside = view.declaration.document.outside
    for index, prefix in enumerate(outside.prefixes if outside else ()):
        at: Path = ("outside", "prefixes", index)
        if is_wider(prefix, *WIDEST):
            message = f"{prefix} outside of the tunnel leaves little within it"
            yield view.declaration.finding(at, Code.TOO_WIDE, message, "at most a /8 (IPv4) or a /16 (IPv6)")
        elif not_routed(prefix):
            remedy = "name networks that are routed"
            yield view.declaration.finding(at, Code.BAD_VALUE, f"{prefix} is no network that a tunnel could lead to", remedy)
        yield from beside_the_tunnels(view, at, prefix, "the outside prefix")


def outside_is_not_the_lan(view: View) -> Iterator[Finding]:
    """Refuse a network that is LAN and outside: the LAN refuses look-ups and keeps packets on the link, outside does neither."""
    outside = view.declaration.document.outside
    networks = list(view.lan())
    for index, prefix in enumerate(outside.prefixes if outside else ()):
        for at, other in networks:
            if overlap(prefix, other):
                message = f"{prefix} is outside, and {other} ({view.declaration.where(at)}) is the LAN"
                remedy = "name each network in one of them"
                yield view.declaration.finding(("outside", "prefixes", index), Code.CONTRADICTION, message, remedy)


def forwarding_is_between_others(view: View) -> Iterator[Finding]:
    """Refuse a tunnel as a bridge or a client's interface; warn of clients that may do nothing."""
    forward = view.declaration.document.forward
    sites: list[tuple[Path, str]] = [(("forward", "bridges", index), each) for index, each in enumerate(forward.bridges)]
    sites += [(("forward", "clients", index), each) for index, each in enumerate(forward.clients)]
    for at, pattern in sites:
        for built in view.tunnels:
            if fnmatchcase(built.name, pattern):
                message = f"'{pattern}' is the tunnel {built.name} ({view.declaration.where(built.path)})"
                yield view.declaration.finding(at, Code.CONTRADICTION, message, "name the other side's interfaces")
    if forward.clients and forward.mode is ForwardMode.BLOCK:
        message = 'there are clients, and mode = "block" forwards nothing'
        remedy = 'write mode = "tunnel", or remove `clients`'
        yield view.declaration.finding(("forward", "clients"), Code.CONTRADICTION, message, remedy, Severity.WARNING)


def sites_are_apart(view: View) -> Iterator[Finding]:
    """Refuse half of a pair of sites, one that is beside the tunnel too, and half the Internet as a caller."""
    forward = view.declaration.document.forward
    if not forward.local and not forward.remote:
        return
    missing = {"remote": forward.remote, "local": forward.local, "clients": forward.clients}
    for key in (each for each, value in missing.items() if not value):
        at: Path = ("forward", "remote" if forward.remote else "local")
        yield view.declaration.finding(at, Code.CONTRADICTION, f"there are two sites, and no `{key}`", f"write `{key}` too")
    here, there = ({each.version for each in prefixes} for prefixes in (forward.local, forward.remote))
    if here and there and not here & there:
        message = "`local` and `remote` have no version of IP in common"
        yield view.declaration.finding(("forward", "remote"), Code.CONTRADICTION, message, "name networks of the same version")
    beside = [*view.lan(), *_outside(view)]
    for key, others in (("local", ()), ("remote", (*_listed("local", forward.local), *beside))):
        for at, prefix in _listed(key, getattr(forward, key)):
            yield from _site(view, at, prefix, others)


def _site(view: View, at: Path, prefix: Prefix, others: Iterable[tuple[Path, Prefix]]) -> Iterator[Finding]:
    if is_wider(prefix, *WIDEST):
        yield view.declaration.finding(at, Code.TOO_WIDE, f"{prefix} is wider than any site", "at most a /8 (IPv4) or a /16 (IPv6)")
    elif not_routed(prefix):
        message = f"{prefix} is no network that a tunnel could lead to"
        yield view.declaration.finding(at, Code.BAD_VALUE, message, "name networks that are routed")
    for where, other in others:
        if overlap(prefix, other):
            message = f"{prefix} is at the tunnel's other end, and {other} ({view.declaration.where(where)}) is on this side"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, "name each network in one of them")


def _outside(view: View) -> Iterator[tuple[Path, Prefix]]:
    outside = view.declaration.document.outside
    for index, prefix in enumerate(outside.prefixes if outside else ()):
        yield ("outside", "prefixes", index), prefix


def _listed(key: str, prefixes: Iterable[Prefix]) -> Iterator[tuple[Path, Prefix]]:
    for index, prefix in enumerate(prefixes):
        yield ("forward", key, index), prefix

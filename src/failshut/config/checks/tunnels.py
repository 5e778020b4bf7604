"""Checks of the tunnels."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.config.checks.view import View
from failshut.config.tunnels import Built, effective_mark
from failshut.model.finding import Code, Finding, Severity
from failshut.model.marks import ARRIVAL, STAMP
from failshut.model.units import InterfaceName


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
            message = f"the policy's fwmark is {mark}, but {built.config.fwmark_where} sets {own}"
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


def hops_lead_out(view: View) -> Iterator[Finding]:
    """Refuse a double hop through a tunnel that there is none of, or that ends where it began; or by one mark for both."""
    known = {built.name: built for built in view.tunnels}
    for built in view.tunnels:
        outer = built.table.through
        if outer is None:
            continue
        at = (*built.path, "through")
        if outer not in known:
            message = f"{built.name} goes through {outer}, which the policy does not name"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, f"add [tunnel.{outer}], or correct the name")
        elif built.name in _hops(built, known):
            message = (
                f"{built.name} goes through {outer}, and that through {built.name} ({view.declaration.where(known[outer].path)})"
            )
            yield view.declaration.finding(at, Code.CONTRADICTION, message, "one of them must leave by the underlay")
        elif effective_mark(built) == effective_mark(known[outer]):
            message = (
                f"{built.name} and {outer} ({view.declaration.where(known[outer].path)}) carry one mark, {effective_mark(built)}"
            )
            remedy = "give each its own FwMark: by it the routes tell the inner tunnel's packets from the outer's"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy)


def _hops(built: Built, known: dict[InterfaceName, Built]) -> list[InterfaceName]:
    """Return the tunnels that the transport of `built` passes, up to the first that is met twice."""
    passed: list[InterfaceName] = []
    outer = built.table.through
    while outer in known and outer not in passed:
        passed.append(outer)
        outer = known[outer].table.through
    return passed

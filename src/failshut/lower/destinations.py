"""What programs may reach on the underlay by address: first the test of the source, then the pinned exceptions."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.outside import pin_matches
from failshut.lower.rules import ALLOWED, is_, is_not, rule
from failshut.model.policy import Policy
from failshut.model.ruleset import Exthdr, Fib, Payload, Range, Rule, Verdict


def source_rules() -> Iterator[Rule]:
    """Yield the rules that end the chain for every packet whose source address is not of the very interface it leaves by.

    It keeps what was meant for the tunnel from leaving as a LAN packet: after `ip link set wg0 down` sockets keep the tunnel's
    address, and a foreign mark or route can turn them to the underlay.
    """
    yield rule("source", is_not(Fib(("saddr", "oif"), "type"), "local"), Verdict.RETURN)
    # A routing header names another destination than the one that is judged (RFC 8754).
    yield rule("source-route", is_(Exthdr("rt"), "exists"), Verdict.RETURN)
    # So do IPv4's own options (RFC 791). Which of them there are can't be asked: beside one that is unfit the kernel sees none.
    yield rule("source-route", is_(Payload("ip", "hdrlength"), Range(6, 15)), Verdict.RETURN)


def outbound_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the pinned exceptions that the packet itself can prove; those of a control group come marked from output."""
    for pin in policy.outbound:
        if pin.cgroup is None and not pin.on_demand:
            for matches in pin_matches(pin):
                yield rule(f"outbound:{pin.name}", *matches, ALLOWED)

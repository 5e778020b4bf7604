"""Inbound services: their replies, never a blanket ESTABLISHED, out by the interface the connection came in on.

A connection mark set on arrival says which device that was. It is restored as the tunnel's own mark in a `type route` chain, so
that wg-quick's rule sends the answer by the main table and not into the tunnel; the choke point then checks the device.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.rules import ALLOWED, META_MARK, OIFNAME, address_matches, any_of, is_, is_not, rule
from failshut.lower.sets import gate
from failshut.lower.transport import underlay_mark
from failshut.model.host import HostFacts
from failshut.model.marks import ARRIVAL, ARRIVAL_SHIFT, MAX_ARRIVAL_DEVICES
from failshut.model.policy import Inbound, Policy
from failshut.model.ruleset import Assign, Binary, BitOp, Ct, Fib, Jump, Match, Meta, Payload, Rule, Verdict, masked
from failshut.model.units import InterfaceName

_CT_MARK = Ct("mark")
_ARRIVED = masked(_CT_MARK, ARRIVAL)
# The kernel keeps the bits that are set anyway, and lists them so: read-back compares by value.
_KEEP = 0xFFFFFFFF ^ ARRIVAL


def arrival_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the prerouting rules that send packets to a service through the `arrived` chain. Nothing without underlay devices."""
    if not facts.underlay:
        return
    for service in policy.inbound:
        for matches in _variants(service, "dport", "saddr"):
            yield rule(f"inbound:{service.name}", is_(Ct("direction"), "original"), *matches, Jump("arrived"))


def arrived_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules that write down the device a connection arrived on.

    The packet also gets the tunnel's mark: a strict reverse-path filter would otherwise look the client up in the tunnel's table
    and discard it.
    """
    if not policy.inbound:
        return
    for number, device in numbered(facts):
        yield rule(
            "arrived",
            is_(Meta("iifname"), device),
            Assign(_CT_MARK, Binary(BitOp.OR, masked(_CT_MARK, _KEEP | number), number)),
            Assign(META_MARK, underlay_mark(policy, facts)),
        )


def reroute_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rule at output that keeps replies out of the tunnel."""
    if policy.inbound and facts.underlay:
        yield rule(
            "inbound:reply",
            is_(Ct("direction"), "reply"),
            is_not(_ARRIVED, 0),
            Assign(META_MARK, underlay_mark(policy, facts)),
            Verdict.ACCEPT,
        )


def departure_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rule that takes the tunnel's mark off a reply once it is routed.

    wg-quick's own postrouting chain (priority mangle) saves the mark of UDP packets into the connection, over the arrival's bits.
    And at the choke point a reply would have the transport's mark without being the tunnel's: the audit finds that packet.
    """
    if policy.inbound and facts.underlay:
        yield rule("inbound:routed", is_(Ct("direction"), "reply"), is_not(_ARRIVED, 0), Assign(META_MARK, 0))


def stray_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules that keep a service's first word out of the tunnel when its session is older than the tunnel.

    The packet has the underlay's address and its connection is unknown. Sent into the tunnel it would be lost, and written down as
    a connection of our own making; refused, it is sent again after the client's next packet has told where the session belongs.
    """
    tunnels = any_of(str(each) for each in policy.interfaces)
    for service in policy.inbound:
        for matches in _variants(service, "sport", "daddr"):
            elsewhere = is_not(Fib(("saddr", "oif"), "type"), "local")
            yield rule(
                f"inbound:{service.name}",
                *matches,
                is_(OIFNAME, tunnels),
                is_(Ct("direction"), "original"),
                elsewhere,
                Verdict.DROP,
            )


def session_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules that refuse a service's own packets without a word.

    A session that was there before arming has no arrival written down until its client speaks; a reset would end it.
    """
    for service in policy.inbound:
        for matches in _variants(service, "sport", "daddr"):
            yield rule(f"inbound:{service.name}", *matches, Verdict.DROP)


def reply_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules for the underlay chain that let a service's replies out by the device they belong to."""
    for service in policy.inbound:
        for number, device in numbered(facts):
            for matches in _variants(service, "sport", "daddr"):
                yield rule(
                    f"inbound:{service.name}",
                    is_(OIFNAME, device),
                    is_(Ct("direction"), "reply"),
                    is_(_ARRIVED, number),
                    *matches,
                    ALLOWED,
                )


def input_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules that let new connections to the services in."""
    for service in policy.inbound:
        for matches in _variants(service, "dport", "saddr"):
            yield rule(f"inbound:{service.name}", *matches, Verdict.ACCEPT)


def numbered(facts: HostFacts) -> Iterator[tuple[int, InterfaceName]]:
    """Yield each underlay device with its connection-mark value; past the mark's 127 none, so that no reply leaves there."""
    for index, device in enumerate(facts.underlay[:MAX_ARRIVAL_DEVICES], start=1):
        yield index << ARRIVAL_SHIFT, device


def _variants(service: Inbound, port: str, address: str) -> Iterator[tuple[Match, ...]]:
    ports = (*gate(service.name, on_demand=service.on_demand), is_(Payload(service.protocol, port), int(service.port)))
    if not service.sources:
        yield ports
    for source in address_matches(address, service.sources):
        yield (*ports, source)

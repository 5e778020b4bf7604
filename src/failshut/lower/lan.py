"""The local network, with look-ups of names refused before it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from failshut.lower.rules import ALLOWED, DNS_PORTS, META_MARK, OIFNAME, address_matches, any_of, is_, rule, to_ports
from failshut.lower.sets import gate
from failshut.model.host import HostFacts
from failshut.model.policy import Lan, MulticastName, Policy
from failshut.model.ruleset import Assign, Jump, Match, Payload, Range, Rule, Verdict
from failshut.model.units import Protocol

# What goes to the link stays on it: no router carries a packet on whose hop limit is 1.
ON_LINK = Jump("allowed-on-link", goto=True)

# RFC 6762, RFC 4795, UPnP 2.0: the port, and the groups.
MULTICAST_GROUPS = {
    MulticastName.MDNS: (5353, ("224.0.0.251", "ff02::fb")),
    MulticastName.LLMNR: (5355, ("224.0.0.252", "ff02::1:3")),
    MulticastName.SSDP: (1900, ("239.255.255.250", "ff02::c")),
}
# Both also answer a question that is sent to one host. A resolver on the LAN would carry every name that the user looks up out in
# the clear.
_LOOKUPS = (MulticastName.MDNS, MulticastName.LLMNR)


def on_link_rules(facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules of the chain `allowed-on-link`."""
    stamp = Assign(META_MARK, facts.stamp)
    yield rule("hop-limit", Assign(Payload("ip", "ttl"), 1), stamp, Verdict.ACCEPT)
    yield rule("hop-limit", Assign(Payload("ip6", "hoplimit"), 1), stamp, Verdict.ACCEPT)


def lan_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the LAN allowance, after the refusal of name look-ups."""
    lan = policy.lan
    if lan is None:
        return
    always = (*gate("lan", on_demand=lan.on_demand), *_interfaces(lan))
    if not lan.dns:
        ports = (*DNS_PORTS, *(MULTICAST_GROUPS[each][0] for each in _LOOKUPS if each not in lan.multicast))
        yield rule("dns", *to_ports(ports), Verdict.RETURN)
    for services in _services(lan):
        for address in address_matches("daddr", lan.prefixes):
            yield rule("allow:lan", *always, *services, address, ON_LINK)
        for address in address_matches("daddr", lan.routed):
            yield rule("allow:lan", *always, *services, address, ALLOWED)
    for name in lan.multicast:
        port, groups = MULTICAST_GROUPS[name]
        # mDNS is sent with the hop limit 255 (RFC 6762, 11); SSDP's group is one that routers may carry on.
        verdict = ON_LINK if name is MulticastName.SSDP else ALLOWED
        for group in map(ip_address, groups):
            there = is_(Payload("ip" if group.version == 4 else "ip6", "daddr"), group)
            yield rule(f"allow:{name}", *always, there, is_(Payload("udp", "dport"), port), verdict)


def multicast_input_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the input rule for what others announce."""
    if policy.lan and policy.lan.multicast:
        gated = gate("lan", on_demand=policy.lan.on_demand)
        ports = any_of(MULTICAST_GROUPS[each][0] for each in policy.lan.multicast)
        yield rule("allow:multicast", *gated, is_(Payload("udp", "dport"), ports), Verdict.ACCEPT)


def _services(lan: Lan) -> Iterator[tuple[Match, ...]]:
    """Yield the matches on the listed ports, one for each protocol; a single empty one when every port is meant."""
    if not lan.services:
        yield ()
    for protocol in Protocol:
        ports = [
            int(each.low) if each.low == each.high else Range(int(each.low), int(each.high))
            for each in lan.services
            if each.protocol is protocol
        ]
        if ports:
            yield (is_(Payload(protocol, "dport"), any_of(ports)),)


def _interfaces(lan: Lan) -> tuple[Match, ...]:
    return (is_(OIFNAME, any_of(lan.interfaces)),) if lan.interfaces else ()

"""What programs may reach on the underlay by address: pinned exceptions and the LAN, with DNS refused in between."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from failshut.lower.rules import ALLOWED, L4PROTO, OIFNAME, SKUID, address_matches, any_of, is_, is_not, rule
from failshut.model.policy import Lan, Policy
from failshut.model.ruleset import AnySet, Exthdr, Fib, Match, Payload, Rule, Verdict

_PORTED = AnySet(("tcp", "udp", "udplite", "sctp", "dccp"))
# DNS and DNS over TLS; mDNS and LLMNR also answer a question that is sent to one host. A resolver on the LAN would carry every name
# the user looks up out in the clear.
_DNS_PORTS = (53, 853)
_MULTICAST_DNS_PORTS = (5353, 5355)

# mDNS, LLMNR, SSDP (RFC 6762, RFC 4795, UPnP 2.0): group and port.
_MULTICAST_NAMES = (
    ("ip", ip_address("224.0.0.251"), 5353),
    ("ip6", ip_address("ff02::fb"), 5353),
    ("ip", ip_address("224.0.0.252"), 5355),
    ("ip6", ip_address("ff02::1:3"), 5355),
    ("ip", ip_address("239.255.255.250"), 1900),
    ("ip6", ip_address("ff02::c"), 1900),
)


def source_rules() -> Iterator[Rule]:
    """Yield the rules that end the chain for every packet whose source address is not of the very interface it leaves by.

    It keeps what was meant for the tunnel from leaving as a LAN packet: after `ip link set wg0 down` sockets keep the tunnel's
    address, and a foreign mark or route can turn them to the underlay.
    """
    yield rule("source", is_not(Fib(("saddr", "oif"), "type"), "local"), Verdict.RETURN)
    # A routing header names another destination than the one that is judged (RFC 8754).
    yield rule("source-route", is_(Exthdr("rt"), "exists"), Verdict.RETURN)


def outbound_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the pinned exceptions."""
    for pin in policy.outbound:
        owner = (is_(SKUID, pin.uid),) if pin.uid is not None else ()
        for address in address_matches("daddr", pin.to):
            yield rule(f"outbound:{pin.name}", is_(Payload(pin.protocol, "dport"), int(pin.port)), *owner, address, ALLOWED)


def lan_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the LAN allowance, after the refusal of name look-ups."""
    if policy.lan is None:
        return
    interfaces = _interfaces(policy.lan)
    if not policy.lan.dns:
        ports = _DNS_PORTS if policy.lan.multicast else _DNS_PORTS + _MULTICAST_DNS_PORTS
        yield rule("dns", is_(L4PROTO, _PORTED), is_(Payload("th", "dport"), AnySet(ports)), Verdict.RETURN)
    for address in address_matches("daddr", policy.lan.prefixes):
        yield rule("allow:lan", *interfaces, address, ALLOWED)
    if policy.lan.multicast:
        for family, group, port in _MULTICAST_NAMES:
            yield rule(
                "allow:lan-multicast",
                *interfaces,
                is_(Payload(family, "daddr"), group),
                is_(Payload("udp", "dport"), port),
                ALLOWED,
            )


def _interfaces(lan: Lan) -> tuple[Match, ...]:
    return (is_(OIFNAME, any_of(lan.interfaces)),) if lan.interfaces else ()

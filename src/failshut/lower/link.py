"""What keeps the link itself alive: DHCP and neighbour discovery, narrowed to what a client sends (docs/security.md, "link")."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from failshut.lower.rules import ALLOWED, SKUID, any_of, is_, rule
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.ruleset import AnySet, Limit, Payload, Rule
from failshut.model.units import Address, Prefix

BROADCAST = ip_address("255.255.255.255")
LINK_LOCAL = ip_network("fe80::/10")
LINK_MULTICAST = ip_network("ff02::/16")
ALL_DHCP_AGENTS = ip_address("ff02::1:2")

# Where a DHCP server that leases an address for a LAN can live; a unicast renewal to anywhere else is refused, and the client
# falls back to broadcast (RFC 2131, 4.4.5).
_DHCP_SERVERS: tuple[Address | Prefix, ...] = (
    ip_network("10.0.0.0/8"),
    ip_network("169.254.0.0/16"),
    ip_network("172.16.0.0/12"),
    ip_network("192.168.0.0/16"),
    BROADCAST,
)
# So that a program that runs as the DHCP client's user can't turn the allowance into a channel worth having.
DHCP_RATE = Limit(rate=10, per="second", burst=10)

ND_SENT = ("nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert")
MLD_SENT = ("mld-listener-report", "mld-listener-done", "mld2-listener-report")


def link_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules for DHCPv4, DHCPv6, neighbour discovery and multicast listener reports."""
    owner = is_(SKUID, any_of(facts.dhcp_uids))
    if policy.dhcp:
        yield rule(
            "allow:dhcp",
            is_(Payload("udp", "sport"), 68),
            is_(Payload("udp", "dport"), 67),
            owner,
            is_(Payload("ip", "daddr"), AnySet(_DHCP_SERVERS)),
            DHCP_RATE,
            ALLOWED,
        )
        yield rule(
            "allow:dhcp",
            is_(Payload("udp", "sport"), 546),
            is_(Payload("udp", "dport"), 547),
            owner,
            is_(Payload("ip6", "saddr"), LINK_LOCAL),
            is_(Payload("ip6", "daddr"), AnySet((LINK_LOCAL, ALL_DHCP_AGENTS))),
            DHCP_RATE,
            ALLOWED,
        )
    if policy.ndp:
        # A global destination with hop limit 255 would be routed on, so only what can't leave the link.
        yield rule(
            "allow:ndp",
            is_(Payload("icmpv6", "type"), AnySet(ND_SENT)),
            is_(Payload("ip6", "hoplimit"), 255),
            is_(Payload("ip6", "daddr"), AnySet((LINK_LOCAL, LINK_MULTICAST))),
            ALLOWED,
        )
        yield rule(
            "allow:mld",
            is_(Payload("icmpv6", "type"), AnySet(MLD_SENT)),
            is_(Payload("ip6", "hoplimit"), 1),
            is_(Payload("ip6", "daddr"), LINK_MULTICAST),
            ALLOWED,
        )

"""What keeps the link itself alive: DHCP and neighbour discovery, narrowed to what a client sends (docs/security.md, "link")."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from failshut.lower.rules import ALLOWED, SKUID, any_of, is_, rule
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.ruleset import AnySet, Limit, Match, Op, Payload, Right, Rule, Verdict
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

NEIGHBOUR_SENT = ("nd-neighbor-solicit", "nd-neighbor-advert")
ND_SENT = ("nd-router-solicit", *NEIGHBOUR_SENT)
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
        yield from _discovery_rules(owner.right)


def _discovery_rules(owners: Right) -> Iterator[Rule]:
    """Yield neighbour discovery and listener reports.

    A program that is neither root nor the DHCP client's user sends none of it (`!=` ends the rule for the kernel's own packets,
    which have no user). To a global address only the kernel asks and answers: it knows that address to be on the link, where a
    program's packet with hop limit 255 would be routed on. Any user can make the kernel report a group of his choice, so reports
    are few and short.
    """
    kind = Payload("icmpv6", "type")
    to_the_link = is_(Payload("ip6", "daddr"), AnySet((LINK_LOCAL, LINK_MULTICAST)))
    hop_limit = is_(Payload("ip6", "hoplimit"), 255)
    short = Match(Payload("ip6", "length"), 64, Op.LE)
    yield rule("ndp:programs", is_(kind, AnySet(ND_SENT + MLD_SENT)), Match(SKUID, owners, Op.NE), Verdict.RETURN)
    yield rule("allow:ndp", is_(kind, AnySet(ND_SENT)), hop_limit, short, to_the_link, ALLOWED)
    yield rule("ndp:programs", is_(kind, AnySet(ND_SENT)), Match(SKUID, 0, Op.GE), Verdict.RETURN)
    yield rule("allow:ndp", is_(kind, AnySet(NEIGHBOUR_SENT)), hop_limit, short, ALLOWED)
    yield rule(
        "allow:mld",
        is_(kind, AnySet(MLD_SENT)),
        is_(Payload("ip6", "hoplimit"), 1),
        Match(Payload("ip6", "length"), 136, Op.LE),
        is_(Payload("ip6", "daddr"), LINK_MULTICAST),
        Limit(rate=2, per="second", burst=10),
        ALLOWED,
    )

"""Tailscale beside the tunnel: what tailscaled sends of its own, told by its mark, its owner and its port (docs/security.md).

Not "any UDP to 41641": that would let every program talk to whoever listens there. tailscaled marks its sockets with 0x80000, of
the bits 0xff0000, and runs as root; a program with CAP_NET_RAW alone can set the mark, and is not root.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from failshut.lower.rules import ALLOWED, IIFNAME, META_MARK, SKUID, address_matches, any_of, is_, is_not, rule
from failshut.model.marks import TAILSCALE, TAILSCALE_MASK
from failshut.model.policy import TAILSCALE_INTERFACE, Policy
from failshut.model.ruleset import AnySet, Assign, Fib, Match, Payload, Range, Rule, Socket, Verdict, masked

NAME = "allow:tailscale"
# A peer behind an address translator has a high port, as its own is one (RFC 4787, REQ-3); STUN is 3478. Below stand the names'
# ports, 53 and 853, and those of every other service that answers in the clear; 5353 and 5355 ask for names, too.
_NO_PEER = AnySet((Range(0, 1023), 5353, 5355))
# The ranges of a tailnet's addresses. The first is also what providers give their customers (RFC 6598).
TAILNET = (("ip", ip_network("100.64.0.0/10")), ("ip6", ip_network("fd7a:115c:a1e0::/48")))


def marked(policy: Policy) -> Iterator[tuple[Match, ...]]:
    """Yield the matches on tailscaled's own packets: to peers and STUN servers, and to control and relay servers over TCP."""
    tailscale = policy.tailscale
    if tailscale is None:
        return
    owner = is_(masked(META_MARK, TAILSCALE_MASK), TAILSCALE), is_(SKUID, 0)
    yield (*owner, is_(Payload("udp", "sport"), int(tailscale.port)), is_not(Payload("udp", "dport"), _NO_PEER))
    if tailscale.tcp:
        ports = is_(Payload("tcp", "dport"), any_of(int(each) for each in tailscale.tcp))
        places = list(address_matches("daddr", tailscale.servers))
        yield from ((*owner, ports, place) for place in places)
        if not places:
            yield (*owner, ports)


def tailscale_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules for the underlay chain; they stand after the refusal of foreign source addresses."""
    for matches in marked(policy):
        yield rule(NAME, *matches, ALLOWED)


def tailscale_input_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rule that lets peers speak first: behind an address translator they come from a port nobody could foretell."""
    if policy.tailscale:
        yield rule(NAME, is_(Payload("udp", "dport"), int(policy.tailscale.port)), Verdict.ACCEPT)


def tailscale_arrival_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rule that lets answers to tailscaled pass a strict reverse-path filter.

    It asks where an answer would go: without the mark, into the tunnel (measured with rp_filter=1: nothing came in over IPv4).
    """
    if policy.tailscale:
        elsewhere = is_not(IIFNAME, AnySet(("lo", *(str(each) for each in policy.interfaces))))
        ours = is_(masked(Socket("mark"), TAILSCALE_MASK), TAILSCALE)
        yield rule(NAME, elsewhere, ours, Assign(META_MARK, TAILSCALE))


def tailnet_address_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules that keep others from talking to the machine's tailnet address (CVE-2019-14899).

    It need not be known: it is any of the tailnet's ranges that is the machine's own, and not of the interface it was asked on. A
    provider's address of the same range is of that interface.
    """
    if policy.tailscale is None:
        return
    elsewhere = is_not(IIFNAME, AnySet(("lo", str(TAILSCALE_INTERFACE))))
    own, not_here = is_(Fib(("daddr",), "type"), "local"), is_not(Fib(("daddr", "iif"), "type"), "local")
    for family, prefix in TAILNET:
        yield rule("tailnet-address", elsewhere, is_(Payload(family, "daddr"), prefix), own, not_here, Verdict.DROP)

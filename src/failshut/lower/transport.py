"""The handshake is an identity, not an address (docs/security.md, "transport").

Address, port, protocol, the tunnel's mark *and* the owner of the socket: TunnelCrack ServerIP (CVE-2023-36673) and Cure53's
MUL-02-002 are what happens when only the address is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.needs import asks_names, tracks
from failshut.lower.rules import ALLOWED, FAMILIES, IIFNAME, META_MARK, OIFNAME, SKUID, any_of, is_, rule
from failshut.lower.sets import sent_by, site
from failshut.model.host import HostFacts, WireGuardKind
from failshut.model.policy import Policy, Tunnel, TunnelKind
from failshut.model.ruleset import (
    AnyMap,
    Assign,
    Chain,
    Concat,
    Jump,
    Match,
    Payload,
    Range,
    Rule,
    SetRef,
    Statement,
    Tuple,
    Verdict,
    VerdictMap,
)
from failshut.model.timed import CANDIDATES, PROBE
from failshut.model.units import Mark, Protocol

# From so many kinds of endpoints on (by protocol and family) their rules are too many to stand before all others.
_FEW = 2
_UNPRIVILEGED = Range(1024, 65535)
# That a packet of the transport was too large, or found nobody.
_ERRORS = {"icmp": ("destination-unreachable",), "icmpv6": ("destination-unreachable", "packet-too-big")}


def mark_of(tunnel: Tunnel, facts: HostFacts) -> Mark:
    """Return the mark by which `tunnel`'s transport is known.

    What the policy or the config says; else what the machine does; else wg-quick's default.
    """
    return tunnel.fwmark or facts.marks.get(tunnel.interface) or tunnel.default_mark


def underlay_mark(policy: Policy, facts: HostFacts) -> Mark:
    """Return a mark whose packets are routed by the main table: that of a tunnel whose transport leaves by the underlay."""
    return mark_of(next((each for each in policy.tunnels if each.through is None), policy.tunnels[0]), facts)


def carrying_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rule that ends a chain for what bears a tunnel's mark: it is judged elsewhere."""
    yield rule("choke-point-decides", is_(META_MARK, any_of(_by_mark(policy, facts))), Verdict.ACCEPT)


def first_transport_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the choke point's first rules: the transport of the only tunnel, without a jump; none where there are more.

    Each packet into the tunnel becomes one of these. A comparison with a number costs 1 to 2 % of a packet, a jump or a set 4 %.
    """
    only = _only(policy)
    if only:
        yield from _to_peers(only, facts, stamp=facts.stamp)


def to_transport_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the choke point's rule that asks for the transport of what bears a tunnel's mark, and of nothing else."""
    there = {each.name for each in transport_chains(policy, facts)}
    ways = tuple((mark, Jump(name)) for mark, (name, _) in _named(policy, facts).items() if name in there)
    match ways:
        case ():
            return
        case ((mark, jump),):
            yield rule("transport", is_(META_MARK, mark), jump)
        case _:
            yield rule("transport", VerdictMap(META_MARK, AnyMap(ways)))


def transport_chains(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    """Yield the chains that let each tunnel's own packets reach its endpoints, one for each mark: as fast with many tunnels."""
    only = _only(policy)
    for name, tunnels in _named(policy, facts).values():
        peers = [each for tunnel in tunnels if tunnel is not only for each in _to_peers(tunnel, facts)]
        new = [each for tunnel in tunnels for each in _candidate_rules(policy, tunnel, facts)]
        if peers or new:
            yield Chain(name, (*peers, *new))


def _only(policy: Policy) -> Tunnel | None:
    """Return the policy's only tunnel, None if there are several or it has many endpoints."""
    match policy.tunnels:
        case (tunnel,) if len(list(_peer_matches(tunnel, "daddr", "dport"))) <= _FEW:
            return tunnel
    return None


def _by_mark(policy: Policy, facts: HostFacts) -> dict[Mark, list[Tunnel]]:
    found: dict[Mark, list[Tunnel]] = {}
    for tunnel in policy.tunnels:
        if tunnel.through is None:
            found.setdefault(mark_of(tunnel, facts), []).append(tunnel)
    return found


def _named(policy: Policy, facts: HostFacts) -> dict[Mark, tuple[str, list[Tunnel]]]:
    marks = _by_mark(policy, facts)
    name = "transport-{:08x}" if len(marks) > 1 else "transport"
    return {mark: (name.format(mark), tunnels) for mark, tunnels in marks.items()}


def _to_peers(tunnel: Tunnel, facts: HostFacts, *, stamp: Mark | None = None) -> Iterator[Rule]:
    for protocol, peers in _peer_matches(tunnel, "daddr", "dport"):
        yield from _own_packets(tunnel, facts, protocol, *peers, stamp=stamp)


def transit_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules for packets that enter a tunnel which carries another: the inner one's transport, and nothing else."""
    for tunnel in policy.tunnels:
        if tunnel.through is not None:
            outer = is_(OIFNAME, str(tunnel.through))
            for protocol, peers in _peer_matches(tunnel, "daddr", "dport"):
                yield from _own_packets(tunnel, facts, protocol, outer, *peers)
            yield from _candidate_rules(policy, tunnel, facts, outer)


def _own_packets(
    tunnel: Tunnel, facts: HostFacts, protocol: Protocol, *matches: Match, stamp: Mark | None = None
) -> Iterator[Rule]:
    marked = is_(META_MARK, mark_of(tunnel, facts))
    # What the chain of `ALLOWED` does, or a jump to it.
    allowed: tuple[Statement, ...] = (ALLOWED,) if stamp is None else (Assign(META_MARK, stamp), Verdict.ACCEPT)
    for sender in _senders(tunnel, facts, protocol):
        yield rule(f"transport:{tunnel.interface}", marked, *matches, sender, *allowed)


def _candidate_rules(policy: Policy, tunnel: Tunnel, facts: HostFacts, *matches: Match) -> Iterator[Rule]:
    """Yield the rules for an endpoint's new address, which has yet to complete a handshake: only WireGuard is asked for one."""
    if tunnel.kind is TunnelKind.OPENVPN or not asks_names(policy):
        return
    for version, (family, _) in FAMILIES.items():
        there = is_(site(family), SetRef(f"{CANDIDATES}{version}"))
        yield from _own_packets(tunnel, facts, Protocol.UDP, *matches, there)


def transport_input_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules that let the endpoints' packets in: after a silence the server may be the first to speak.

    Not to the ports of the system's services: whoever forges the server's address and port would reach them all.
    """
    for tunnel in policy.tunnels:
        if tunnel.through is None:
            for protocol, peers in _peer_matches(tunnel, "saddr", "sport"):
                unprivileged = is_(Payload(protocol, "dport"), _UNPRIVILEGED)
                yield rule(f"transport:{tunnel.interface}", *peers, unprivileged, Verdict.ACCEPT)
    if tracks(policy, facts):
        return
    # What connection tracking would call a reply, or related to one; the kernel looks for the socket that an error is about.
    for asked in (*sent_by(CANDIDATES), *sent_by(PROBE)) if asks_names(policy) else ():
        yield rule("replies", asked, is_(Payload("th", "dport"), _UNPRIVILEGED), Verdict.ACCEPT)
    for header, errors in _ERRORS.items():
        yield rule("errors", is_(Payload(header, "type"), any_of(errors)), Verdict.ACCEPT)


def _peer_matches(tunnel: Tunnel, address: str, port: str) -> Iterator[tuple[Protocol, tuple[Match, ...]]]:
    """Yield the matches on the tunnel's endpoints, for each protocol and family that occurs."""
    for protocol in Protocol:
        for version, family in ((4, "ip"), (6, "ip6")):
            peers = [each for each in tunnel.endpoints if each.protocol is protocol and each.address.version == version]
            where, number = Payload(family, address), Payload(protocol, port)
            # A literal is cheaper than a set lookup, and one peer is the common case (research: 1.56 → 1.26 of the bare cost).
            if len(peers) == 1:
                yield protocol, (is_(where, peers[0].address), is_(number, int(peers[0].port)))
            elif peers:
                pairs = any_of(Tuple((each.address, int(each.port))) for each in peers)
                yield protocol, (is_(Concat((where, number)), pairs),)


def _senders(tunnel: Tunnel, facts: HostFacts, protocol: Protocol) -> Iterator[Match]:
    """Yield how the sender of the tunnel's transport is told from a forger with the same mark.

    A program (wireguard-go, openvpn) sends from a socket of root's; OpenVPN with `user` from that user's, once it has connected
    anew (measured with 2.6.14: a socket belongs to whoever made it). The kernel's WireGuard has no socket that says so: its packets
    carry the uid of the program whose data is inside, but at postrouting they still name the tunnel as the interface they came
    from, which no packet of a local program does (measured on Linux 6.1 and 6.12, docs/adr/0003).
    """
    live = facts.tunnels.get(tunnel.interface)
    is_program = tunnel.kind is TunnelKind.OPENVPN
    # WireGuard has no TCP: whatever carries that is a program, too.
    if is_program or protocol is Protocol.TCP or live is None or live.kind is not WireGuardKind.KERNEL:
        yield is_(SKUID, any_of(tunnel.owners))
    if not is_program:
        yield is_(IIFNAME, str(tunnel.interface))

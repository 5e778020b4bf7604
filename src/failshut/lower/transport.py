"""The handshake is an identity, not an address (docs/security.md, "transport").

Address, port, protocol, the tunnel's mark *and* the owner of the socket: TunnelCrack ServerIP (CVE-2023-36673) and Cure53's
MUL-02-002 are what happens when only the address is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.rules import ALLOWED, META_MARK, SKUID, any_of, is_, rule
from failshut.model.host import HostFacts, WireGuardKind
from failshut.model.policy import DEFAULT_FWMARK, Policy, Tunnel
from failshut.model.ruleset import Concat, Match, Payload, Rule, Tuple
from failshut.model.units import Endpoint, Mark, Protocol


def mark_of(tunnel: Tunnel, facts: HostFacts) -> Mark:
    """Return the mark by which `tunnel`'s transport is known.

    What the policy or the config says; else what the running tunnel carries (wg-quick counts up from 51820 when that table is
    taken, and changing it under a running tunnel would loop its transport into itself); else wg-quick's default.
    """
    live = facts.tunnels.get(tunnel.interface)
    return tunnel.fwmark or (live.fwmark if live else None) or DEFAULT_FWMARK


def transport_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules that let each tunnel's own packets reach its endpoints; first in the chain: most packets are these."""
    for tunnel in policy.tunnels:
        marked = is_(META_MARK, mark_of(tunnel, facts))
        owner = _owner(tunnel, facts)
        for protocol in Protocol:
            for version, family in ((4, "ip"), (6, "ip6")):
                peers = [each for each in tunnel.endpoints if each.protocol is protocol and each.address.version == version]
                if peers:
                    yield rule(f"transport:{tunnel.interface}", marked, *_peer_matches(family, protocol, peers), *owner, ALLOWED)


def _peer_matches(family: str, protocol: Protocol, peers: list[Endpoint]) -> tuple[Match, ...]:
    # A literal is cheaper than a set lookup, and one peer is the common case (research: 1.56 → 1.26 of the bare cost).
    if len(peers) == 1:
        return (
            is_(Payload(family, "daddr"), peers[0].address),
            is_(Payload(protocol, "dport"), int(peers[0].port)),
        )
    key = Concat((Payload(family, "daddr"), Payload(protocol, "dport")))
    return (is_(key, any_of(Tuple((each.address, int(each.port))) for each in peers)),)


def _owner(tunnel: Tunnel, facts: HostFacts) -> tuple[Match, ...]:
    live = facts.tunnels.get(tunnel.interface)
    # wireguard-go's socket belongs to root. Kernel WireGuard's packets keep the socket of the program whose data they carry,
    # so that asking for an owner there would cut off every ordinary user.
    if live and live.kind is WireGuardKind.USERSPACE:
        return (is_(SKUID, 0),)
    return ()

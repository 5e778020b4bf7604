"""What to try, in which order, and what a proof changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from failshut.model.pin import Pin
from failshut.model.policy import Policy, Tunnel
from failshut.model.running import SESSION_LASTS, RunningPeer
from failshut.model.units import Address, Endpoint, NamedEndpoint, Port, Prefix, Protocol

# An answer may name a thousand addresses; each costs the wait for a handshake.
MOST_CANDIDATES = 8

_NEVER = tuple(
    ip_network(each)
    for each in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8")
)
_PRIVATE = tuple(
    ip_network(each) for each in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")
)
# Meant for documents (RFC 5737, RFC 3849): a datagram that wakes the tunnel goes to nobody.
_NOBODY = (ip_address("192.0.2.1"), ip_address("2001:db8::1"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that somebody says a name has now, and where a handshake would have to prove it."""

    host: str
    endpoint: Endpoint


def is_fresh(peer: RunningPeer) -> bool:
    """Whether a peer's session still carries data."""
    return peer.handshake_age is not None and peer.handshake_age < SESSION_LASTS


def endpoint_of(text: str) -> Endpoint | None:
    """Read an endpoint as wg prints it; None for none, or for one with a scope (fe80::1%eth0)."""
    host, _, port = text.rpartition(":")
    try:
        return Endpoint(ip_address(host.strip("[]")), Port(int(port)), Protocol.UDP) if "%" not in host else None
    except ValueError:
        return None


def fallbacks(tunnel: Tunnel, running: Endpoint | None, taken: Iterable[Endpoint] = ()) -> tuple[Endpoint, ...]:
    """Return the pinned endpoints to try for a peer, in turn: the running one first, then those behind it in the policy's order.

    `taken` are those that other peers of the tunnel use. One that is not pinned is not tried: the lock would refuse it.
    """
    known = [each for each in tunnel.endpoints if each.protocol is Protocol.UDP]
    start = known.index(running) if running in known else 0
    used = set(taken) - {running}
    return tuple(each for each in (*known[start:], *known[:start]) if each not in used)


def candidates(tunnel: Tunnel, answers: Mapping[str, tuple[Address, ...]], policy: Policy) -> tuple[Candidate, ...]:
    """Return what of the answers is worth a handshake: at most `MOST_CANDIDATES`, none that is pinned already."""
    found = [
        Candidate(each.host, Endpoint(address, each.port))
        for each in _asked(tunnel)
        for address in answers.get(each.host, ())
        if not unfit(address, each.host, policy)
    ]
    return tuple(each for each in dict.fromkeys(found) if each.endpoint not in tunnel.endpoints)[:MOST_CANDIDATES]


def names_of(tunnel: Tunnel, policy: Policy) -> tuple[str, ...]:
    """Return the names to ask for: not those of /etc/hosts, which the user has pinned."""
    pinned = {pin.host for pin in policy.pins}
    return tuple(dict.fromkeys(each.host for each in _asked(tunnel) if each.host in pinned))


def unfit(address: Address, host: str, policy: Policy) -> str:
    """Return why an address that a resolver gives for `host` can't be its server's; empty when it can."""
    if _in(address, _NEVER):
        return "it is no machine's address on the internet"
    if policy.lan and _in(address, (*policy.lan.prefixes, *policy.lan.routed)):
        return "it lies in the allowed LAN"
    if any(address == each.ip for tunnel in policy.tunnels for each in tunnel.addresses):
        return "it is the tunnel's own address"
    block = _in(address, _PRIVATE)
    known = next((pin.addresses for pin in policy.pins if pin.host == host), ())
    if block and not any(_in(each, (block,)) for each in known):
        return "it is a private address, and the pinned one is not"
    return ""


def repinned(pins: Iterable[Pin], proven: Candidate, answer: Iterable[Address]) -> dict[str, Pin]:
    """Return the pins with the proven address; the name's earlier ones stay while the same answer still has them."""
    held = {pin.host: pin for pin in pins}
    before = held[proven.host].addresses if proven.host in held else ()
    kept = tuple(each for each in before if each in set(answer))
    return {**held, proven.host: Pin(proven.host, (proven.endpoint.address, *kept))}


def wake_addresses(allowed: Iterable[str]) -> Iterator[Address]:
    """Yield addresses behind a peer, by its AllowedIPs: a datagram to one of them makes WireGuard begin a handshake."""
    prefixes = [ip_network(each) for each in allowed]
    yield from (each for each in _NOBODY if _in(each, prefixes))
    yield from (each[1] if each.num_addresses > 1 else each[0] for each in prefixes if each.prefixlen)


def _asked(tunnel: Tunnel) -> Iterator[NamedEndpoint]:
    yield from (each for each in tunnel.names if each.protocol is Protocol.UDP)


def _in(address: Address, prefixes: Iterable[Prefix]) -> Prefix | None:
    return next((each for each in prefixes if each.version == address.version and address in each), None)

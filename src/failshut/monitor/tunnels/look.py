"""Looks at the tunnels: what WireGuard says, then what is needed to tell why one carries nothing."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from failshut.allowances.endpoints.decide import endpoint_of, wake_addresses
from failshut.allowances.endpoints.handshake import wake
from failshut.emit.dns import NS, ROOT, question
from failshut.host.network.links import traffic
from failshut.host.network.resolvers import MOST_SERVERS, name_servers
from failshut.host.run import run
from failshut.host.tunnels.wireguard import running_tunnels
from failshut.model.lock import LOCK_NAME
from failshut.model.running import SESSION_LASTS, RunningPeer, RunningTunnel
from failshut.model.units import Endpoint
from failshut.monitor.tunnels.health import Look
from failshut.read.counts import counts

_DNS, _DNS_PATIENCE = 53, 2.0
# In bytes: what WireGuard itself says in half a minute, with nothing to carry.
_KEEPALIVES = 256
# A clock that is this much off is said; less is a clock being disciplined. In seconds.
JUMP = 10.0


@dataclass(slots=True)
class Clock:
    """The wall clock beside one that never jumps and goes on while the machine sleeps."""

    offset: float = field(default_factory=lambda: time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))

    def jumped(self) -> float:
        """Return by how many seconds the wall clock was set since it was last asked; 0 for less than `JUMP`."""
        offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        by, self.offset = offset - self.offset, offset
        return by if abs(by) >= JUMP else 0.0


@dataclass(slots=True)
class Looker:
    """Remembers what the last look saw. A handshake's age is taken from when it was first seen, once it was: clocks are set."""

    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    _bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _refused: dict[Endpoint, int] = field(default_factory=dict)

    def look(self, names: Collection[str], links: Mapping[str, Collection[str]], suspected: Collection[str]) -> dict[str, Look]:
        """Look at the tunnels `names`. `links` are the flags of the devices there are; `suspected` are asked more thoroughly."""
        running = running_tunnels()
        return {name: self._one(name, running.get(name), links.get(name), suspected) for name in names}

    def _one(self, name: str, tunnel: RunningTunnel | None, flags: Collection[str] | None, suspected: Collection[str]) -> Look:
        if flags is None:
            return Look(there=False, up=False)
        if tunnel is None:
            return self._other(name, "UP" in flags)
        peer = max(tunnel.peers, key=lambda each: (each.handshake_at, bool(each.endpoint)), default=None)
        received, sent = (sum(getattr(each, way) for each in tunnel.peers) for way in ("received", "sent"))
        before_received, before_sent = self._bytes.get(name, (0, 0))
        self._bytes[name] = (received, sent)
        age = self._age(name, peer)
        fresh = age is not None and age < SESSION_LASTS
        # Where something came in since the last look, nothing more needs to be asked.
        quiet = received - before_received < _KEEPALIVES or name in suspected
        unanswered = quiet and sent - before_sent >= _KEEPALIVES
        if not fresh and peer and "UP" in flags:
            wake(name, peer.allowed)
        routed = _routed(name, peer) if fresh and quiet else None
        return Look(
            up="UP" in flags,
            handshake_age=age,
            handshake_at=peer.handshake_at if peer else 0,
            received=received,
            sent=sent,
            endpoint=peer.endpoint if peer else "",
            network=None if fresh else _network(tunnel, peer),
            refused=None if fresh else self._is_refused(peer),
            routed=routed,
            resolved=_resolves() if fresh and unanswered and routed else None,
        )

    def _other(self, name: str, up: bool) -> Look:
        """Look at a tunnel that WireGuard knows nothing of (OpenVPN, or no privilege): its device, and what that counts."""
        received, sent = traffic(name)
        known = self._seen.get(name, (0, 0.0))[0]
        return Look(up=up, wireguard=False, routed=None, handshake_at=known, received=received, sent=sent)

    def _age(self, name: str, peer: RunningPeer | None) -> float | None:
        if peer is None or not peer.handshake_at:
            return None
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        last = self._seen.get(name)
        if last is None:
            # Never seen before: the wall clock's word, which can't be younger than now.
            last = (peer.handshake_at, now - max(peer.handshake_age or 0, 0))
        elif last[0] != peer.handshake_at:
            last = (peer.handshake_at, now)
        self._seen[name] = last
        return now - last[1]

    def _is_refused(self, peer: RunningPeer | None) -> bool:
        """Whether the lock has refused packets to the peer's endpoint since the last look."""
        endpoint = endpoint_of(peer.endpoint) if peer else None
        if endpoint is None:
            return False
        listed = run(["nft", "--json", "list", "set", "inet", LOCK_NAME, f"blocked{endpoint.address.version}"])
        lines = counts((listed.out,)).blocked if listed.ok else ()
        aim = (str(endpoint.address), int(endpoint.port))
        packets = sum(each.packets for each in lines if (each.destination, each.port) == aim)
        before, self._refused[endpoint] = self._refused.get(endpoint, packets), packets
        return packets > before


def _network(tunnel: RunningTunnel, peer: RunningPeer | None) -> bool:
    endpoint = endpoint_of(peer.endpoint) if peer else None
    if endpoint is None:
        return True
    mark = ["mark", str(int(tunnel.fwmark))] if tunnel.fwmark else []
    return _route_to(str(endpoint.address), *mark) not in (None, tunnel.interface)


def _routed(name: str, peer: RunningPeer | None) -> bool | None:
    behind = next(wake_addresses(peer.allowed), None) if peer else None
    return None if behind is None else _route_to(str(behind)) == name


def _route_to(address: str, *words: str) -> str | None:
    answer = run(["ip", "-j", "route", "get", address, *words])
    try:
        return str(json.loads(answer.out)[0]["dev"]) if answer.ok else None
    except (ValueError, LookupError):
        return None


def _resolves() -> bool | None:
    """Ask the system's resolver one question; None where there is none to ask. Outside the tunnel the lock refuses it.

    It is for the root's name servers: every resolver answers that from its memory, and it says nothing about who asks.
    """
    servers = list(name_servers())[:MOST_SERVERS]
    return any(_answers(each) for each in servers) if servers else None


def _answers(server: str) -> bool:
    asked = question(int.from_bytes(os.urandom(2)), ROOT, NS)
    try:
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((server, _DNS))
            sock.send(asked)
            ready, _, _ = select.select([sock], [], [], _DNS_PATIENCE)
            return bool(ready) and sock.recv(4096)[:2] == asked[:2]
    except OSError:
        return False

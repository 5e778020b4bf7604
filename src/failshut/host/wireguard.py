"""WireGuard as it runs: `wg show all dump`, and the mark of a running tunnel. Keys are read past, never kept."""

from __future__ import annotations

import time
from dataclasses import dataclass

from failshut.host.run import Result, run
from failshut.model.units import Mark

_INTERFACE_FIELDS = 5


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """One peer: its endpoint as wg prints it ("" for none), seconds since the last handshake (None: never), bytes."""

    endpoint: str
    handshake_age: int | None
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class RunningTunnel:
    """A running WireGuard interface. `fwmark` is None when it is off."""

    interface: str
    listen_port: int
    fwmark: Mark | None
    peers: tuple[RunningPeer, ...]


def running_tunnels() -> dict[str, RunningTunnel]:
    """Return every running WireGuard interface; empty without the privilege to ask, and without wg."""
    result = run(["wg", "show", "all", "dump"])
    return parse_dump(result.out, now=int(time.time())) if result.ok else {}


def parse_dump(text: str, *, now: int) -> dict[str, RunningTunnel]:
    """Read `wg show all dump` (wg(8)): tab-separated, an interface's line before its peers'. `now` is in seconds since 1970."""
    tunnels: dict[str, RunningTunnel] = {}
    peers: dict[str, list[RunningPeer]] = {}
    for line in text.splitlines():
        words = line.split("\t")
        if len(words) == _INTERFACE_FIELDS:
            name, _private, _public, port, mark = words
            tunnels[name] = RunningTunnel(name, int(port), None if mark == "off" else Mark(int(mark, 0)), ())
        elif len(words) == _INTERFACE_FIELDS + 4:
            name, _public, _preshared, endpoint, _allowed, handshake, received, sent, _keepalive = words
            age = now - int(handshake) if int(handshake) else None
            peer = RunningPeer("" if endpoint == "(none)" else endpoint, age, int(received), int(sent))
            peers.setdefault(name, []).append(peer)
    return {name: RunningTunnel(name, each.listen_port, each.fwmark, tuple(peers.get(name, ()))) for name, each in tunnels.items()}


def fwmark_of(interface: str) -> Mark | None:
    """Return a running tunnel's mark; None when it is off, when there is no such tunnel, or without the privilege to ask."""
    result = run(["wg", "show", interface, "fwmark"])
    word = result.out.strip()
    return Mark(int(word, 0)) if result.ok and word and word != "off" else None


def set_fwmark(interface: str, mark: Mark | None) -> Result:
    """Give a running tunnel its mark, or take it off with None."""
    return run(["wg", "set", interface, "fwmark", str(mark) if mark else "off"])

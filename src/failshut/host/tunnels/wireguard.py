"""WireGuard as it runs: `wg show all dump`, the mark and the endpoints of a running tunnel. Secret keys are read past."""

from __future__ import annotations

import time
from pathlib import Path

from failshut.host.run import Result, run
from failshut.model.running import RunningPeer, RunningTunnel
from failshut.model.units import Mark

_INTERFACE_FIELDS = 5
# base64 of 32 bytes.
_KEY_LENGTH = 44
# Where programs that carry WireGuard have their control sockets, for wg.
_SOCKETS = Path("/var/run/wireguard")
# In seconds: how long after it is there a socket may be listened on.
_BEGINS, _LOOK = 1.0, 0.01
# In seconds: what a clock that is being disciplined may be set back by.
_DISCIPLINED = 10
# In /proc/net/unix (__SO_ACCEPTCON).
_LISTENS = "00010000"


def running_tunnels() -> dict[str, RunningTunnel]:
    """Return every running WireGuard interface; empty without the privilege to ask, and without wg."""
    _await_sockets()
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
            name, public, _preshared, endpoint, allowed, handshake, received, sent, _keepalive = words
            peer = RunningPeer(
                endpoint="" if endpoint == "(none)" else endpoint,
                handshake_age=_age(int(handshake), now),
                received=int(received),
                sent=int(sent),
                handshake_at=int(handshake),
                key=public,
                allowed=tuple(allowed.split(",")) if allowed != "(none)" else (),
            )
            peers.setdefault(name, []).append(peer)
    return {name: RunningTunnel(name, each.listen_port, each.fwmark, tuple(peers.get(name, ()))) for name, each in tunnels.items()}


def _age(handshake: int, now: int) -> int | None:
    """Return the seconds since a handshake; None without one, and where the clock was set back since, nobody knows by how much."""
    return max(now - handshake, 0) if handshake and now - handshake > -_DISCIPLINED else None


def set_endpoint(interface: str, key: str, endpoint: str) -> Result:
    """Point a peer of a running tunnel, by its public key, at another endpoint: `203.0.113.10:51820`, `[2001:db8::1]:51820`."""
    return run(["wg", "set", interface, "peer", key, "endpoint", endpoint])


def fwmark_of(interface: str) -> Mark | None:
    """Return a running tunnel's mark; None when it is off, when there is no such tunnel, or without the privilege to ask."""
    _await_sockets()
    result = run(["wg", "show", interface, "fwmark"])
    word = result.out.strip()
    return Mark(int(word, 0)) if result.ok and word and word != "off" else None


def set_fwmark(interface: str, mark: Mark | None) -> Result:
    """Give a running tunnel its mark, or take it off with None."""
    return run(["wg", "set", interface, "fwmark", str(mark) if mark else "off"])


def _await_sockets() -> None:
    """Wait for a program that is making its control socket: wg removes one that nobody listens on, as a dead program's."""
    while _is_one_begun():
        time.sleep(_LOOK)


def _is_one_begun() -> bool:
    try:
        fresh = {each.name for each in _SOCKETS.iterdir() if 0 <= time.time() - each.stat().st_mtime < _BEGINS}
        listed = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace") if fresh else ""
    except OSError:
        return False
    words = (line.split() for line in listed.splitlines())
    heard = {Path(each[-1]).name for each in words if len(each) > 7 and each[3] == _LISTENS}
    return bool({each for each in fresh if each.endswith(".sock")} - heard)


class NoKeysError(Exception):
    """wg made no key: it is missing, or failed."""


def fresh_keys() -> tuple[str, str, str]:
    """Return a new private key, its public key, and a key for a peer and its server to share. Raises `NoKeysError`."""
    private = _key("genkey")
    return private, _key("pubkey", stdin=private), _key("genpsk")


def public_key(private: str) -> str:
    """Return the public key of a private one. Raises `NoKeysError`."""
    return _key("pubkey", stdin=private)


def _key(word: str, stdin: str | None = None) -> str:
    result = run(["wg", word], stdin=stdin, secret=True)
    key = result.out.strip()
    if not result.ok or len(key) != _KEY_LENGTH:
        raise NoKeysError(result.complaint if not result.ok else f"wg {word} gave no key")
    return key

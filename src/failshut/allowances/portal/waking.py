"""A tunnel that waits for a way out: when it last shook hands, and something to shake hands for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from failshut.host.tunnels.wireguard import running_tunnels

# Addresses for documentation (RFC 5737, RFC 3849), and the port that discards: nobody is spoken to.
_NOBODY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_DISCARD = 9


def newest_handshake(tunnels: Iterable[str]) -> int | None:
    """Return the seconds since the last handshake of any of these tunnels; None without one."""
    running = running_tunnels()
    peers = [peer for name in tunnels if name in running for peer in running[name].peers]
    return min((each.handshake_age for each in peers if each.handshake_age is not None), default=None)


def wake(tunnels: Iterable[str]) -> None:
    """Send a packet into each tunnel: WireGuard shakes hands only when there is something to send."""
    for tunnel in tunnels:
        for family, address in _NOBODY:
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, tunnel.encode() + b"\0")
                sock.sendto(b"", (address, _DISCARD))

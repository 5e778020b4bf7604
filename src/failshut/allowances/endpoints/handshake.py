"""Points a running peer at an endpoint and waits for the handshake: the only proof that the server is there."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterable

from failshut.allowances.endpoints.decide import endpoint_of, wake_addresses
from failshut.host.tunnels.wireguard import running_tunnels, set_endpoint
from failshut.model.running import RunningPeer
from failshut.model.units import Endpoint

# In seconds. WireGuard sends an initiation again after 5 s (REKEY_TIMEOUT) and at most 333 ms: two go out in this time.
WAIT = 10.0
_LOOK = 0.25
_DISCARD = 9


def peer_of(interface: str, key: str) -> RunningPeer | None:
    """Return a peer as it runs now; None when it or its tunnel is gone."""
    tunnel = running_tunnels().get(interface)
    return next((each for each in tunnel.peers if each.key == key), None) if tunnel else None


def answers(interface: str, peer: RunningPeer, endpoint: Endpoint) -> bool:
    """Point `peer` at `endpoint` and return whether a handshake with it completes. The peer is left there."""
    now = peer_of(interface, peer.key)
    if now is None or (endpoint_of(now.endpoint) != endpoint and not set_endpoint(interface, peer.key, str(endpoint)).ok):
        return False
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        wake(interface, now.allowed)
        after = peer_of(interface, peer.key)
        if after is None:
            return False
        # Later or, where the clock was set back, earlier.
        if after.handshake_at != now.handshake_at:
            # It follows its server: whoever completed the handshake from elsewhere is not what was asked about.
            return endpoint_of(after.endpoint) == endpoint
        select.select([], [], [], _LOOK)
    return False


def wake(interface: str, allowed: Iterable[str]) -> None:
    """Send one empty datagram into the tunnel, which ends at the server: without data WireGuard begins no handshake."""
    for address in wake_addresses(allowed):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            if address.version == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            sock.sendto(b"", (str(address), _DISCARD))
            return

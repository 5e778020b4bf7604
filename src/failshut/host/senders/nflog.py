"""What the kernel logs to a group of NFLOG: each refused packet with its device, its user and its first bytes.

Source: linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from dataclasses import dataclass
from typing import Self

from failshut.host.network.netlink import (
    LARGEST,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NetlinkError,
    ask,
    attribute,
    attributes,
    messages,
    open_netlink,
)
from failshut.model.packet import Packet
from failshut.read.frame import decode_ip

_PACKET, _CONFIG = 4 << 8, 4 << 8 | 1
_CMD, _MODE, _QTHRESH = 1, 2, 5
_BIND, _COPY_PACKET = 1, 2
_OUTDEV, _PAYLOAD, _UID = 5, 9, 11
# Headers, extension headers and a look-up's name.
_COPIED = 256
# Room for what comes while a process is looked for.
_BUFFER = 8 << 20
_GENMSG = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class Logged:
    """A refused packet. `device` is the number of the interface that it would have left by; `uid` is None for nobody's."""

    packet: Packet
    device: int
    uid: int | None


class Listener:
    """Hears one group. Packets that come faster than they are read are lost, and counted in `lost` once for each time."""

    def __init__(self, group: int) -> None:
        """Bind to `group`. Raises OSError without CAP_NET_ADMIN, or when somebody else listens there."""
        self.lost = 0
        self._channel = open_netlink(NETLINK_NETFILTER)
        try:
            # By force: the limit for programs is a fraction of it.
            self._channel.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _BUFFER)
            for settings in (
                attribute(_CMD, bytes([_BIND])),
                attribute(_MODE, struct.pack("!IBB", _COPIED, _COPY_PACKET, 0)),
                # At once: a program may live for a few milliseconds.
                attribute(_QTHRESH, struct.pack("!I", 1)),
            ):
                list(ask(self._channel, _CONFIG, NLM_F_ACK, _GENMSG.pack(0, 0, group) + settings))
        except OSError:
            self._channel.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, for `select`."""
        return self._channel.fileno()

    def heard(self, within: float) -> list[Logged]:
        """Return what comes next, waiting for it at most `within` seconds."""
        if not select.select([self._channel], [], [], within)[0]:
            return []
        try:
            datagram = self._channel.recv(LARGEST)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.lost += 1
            return []
        try:
            return [logged for kind, body in messages(datagram) if kind == _PACKET and (logged := _logged(body))]
        except NetlinkError:
            return []


def _logged(body: bytes) -> Logged | None:
    said = attributes(body[4:])
    payload = said.get(_PAYLOAD, b"")
    packet = decode_ip(payload)
    if packet is None:
        return None
    device = int.from_bytes(said.get(_OUTDEV, b""), "big")
    return Logged(packet, device, int.from_bytes(said[_UID], "big") if _UID in said else None)

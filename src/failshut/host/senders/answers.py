"""A tap on the answers of resolvers, on every device of this machine: so that an address can be shown by its name."""

from __future__ import annotations

import socket
from typing import Self

from failshut.host.senders.bpf import Instruction, attach
from failshut.model.packet import Packet
from failshut.read.frame import decode_ip

# linux/if_ether.h, linux/bpf_common.h
_ETH_P_ALL = 0x0003
_BYTE, _HALF, _HALF_AT_X, _HEADER, _IF_EQUAL, _SHIFT_RIGHT, _RETURN = 0x30, 0x28, 0x48, 0xB1, 0x15, 0x74, 0x06
_UDP, _DNS, _ALL = 17, 53, 0xFFFF
_LARGEST = 1 << 16

# UDP from port 53 in an IP packet of either version that has no extension headers.
_ANSWERS: tuple[Instruction, ...] = (
    (_BYTE, 0, 0, 0),
    (_SHIFT_RIGHT, 0, 0, 4),
    (_IF_EQUAL, 0, 5, 4),
    (_BYTE, 0, 0, 9),
    (_IF_EQUAL, 0, 9, _UDP),
    (_HEADER, 0, 0, 0),
    (_HALF_AT_X, 0, 0, 0),
    (_IF_EQUAL, 5, 6, _DNS),
    (_IF_EQUAL, 0, 5, 6),
    (_BYTE, 0, 0, 6),
    (_IF_EQUAL, 0, 3, _UDP),
    (_HALF, 0, 0, 40),
    (_IF_EQUAL, 0, 1, _DNS),
    (_RETURN, 0, 0, _ALL),
    (_RETURN, 0, 0, 0),
)


class Answers:
    """Hears every answer that passes this machine's devices, loopback among them."""

    def __init__(self) -> None:
        """Open the tap. Raises OSError without CAP_NET_RAW, or in a kernel without packet sockets."""
        # Of every device, and without the link's header, whatever the link is.
        self._tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        try:
            attach(self._tap, _ANSWERS)
        except OSError:
            self._tap.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tap.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, for `select`."""
        return self._tap.fileno()

    def heard(self) -> Packet | None:
        """Return the next answer, None when there is none now."""
        try:
            data = self._tap.recv(_LARGEST)
        except OSError:
            # Nothing there, or a device went down under the tap.
            return None
        return decode_ip(data)

"""The lab's connection table, by ctnetlink: emptied, looked up, and entered into where no packets can bring it about.

Source: linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from failshut.drill.network.netns import Namespace
from failshut.drill.replay.build import ANSWERED_BY, IDENTIFIER, Flow
from failshut.model.packet import ICMP, ICMPV6, TCP

_NETLINK_NETFILTER = 12
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102
_REQUEST, _ACK, _CREATE, _EXCLUSIVE = 0x1, 0x4, 0x400, 0x200
_ERROR = 2
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO, _TIMEOUT, _MARK, _MASTER = 1, 2, 3, 4, 7, 8, 14
_NESTED = 0x8000
SEEN_REPLY, _ASSURED, _CONFIRMED = 2, 4, 8
_TCP_ESTABLISHED, _LIBERAL = 3, 0x08
_SECONDS = 120


class Conntrack:
    """One socket into a namespace's connection table."""

    def __init__(self, machine: Namespace) -> None:
        with machine.inside():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(2.0)

    def empty(self) -> None:
        """Forget every connection."""
        self._ask(_DELETE, socket.AF_UNSPEC, b"", _ACK)

    def is_answered(self, flow: Flow) -> bool:
        """Whether the connection that `flow` opens is known and was answered."""
        said = self._ask(_GET, _family(flow), _tuple(_ORIGINAL, flow), 0)
        status = next((value for kind, value in _attributes(said[20:]) if kind == _STATUS), b"") if len(said) > 20 else b""
        return len(status) == 4 and bool(struct.unpack(">I", status)[0] & SEEN_REPLY)

    def enter(self, flow: Flow, *, answered: bool, master: Flow | None = None, mark: int = 0) -> bool:
        """Enter a connection as if its packets had been seen: answered, or expected by `master`. Whether the kernel took it."""
        status = _CONFIRMED | ((SEEN_REPLY | _ASSURED) if answered else 0)
        parts = [_tuple(_ORIGINAL, flow), _tuple(_REPLY, flow.back, answer=True)]
        parts += [_attribute(_STATUS, struct.pack(">I", status)), _attribute(_TIMEOUT, struct.pack(">I", _SECONDS))]
        if flow.protocol == TCP:
            flags = _attribute(4, bytes((_LIBERAL, _LIBERAL))) + _attribute(5, bytes((_LIBERAL, _LIBERAL)))
            state = _attribute(1, bytes((_TCP_ESTABLISHED,)))
            parts.append(_attribute(_PROTOCOL_INFO | _NESTED, _attribute(1 | _NESTED, state + flags)))
        if mark:
            parts.append(_attribute(_MARK, struct.pack(">I", mark)))
        if master is not None:
            parts.append(_tuple(_MASTER, master))
        return self._succeeds(_NEW, _family(flow), b"".join(parts), _ACK | _CREATE | _EXCLUSIVE)

    def mark(self, flow: Flow, mark: int) -> bool:
        """Mark the connection that `flow` opened; whether there was one."""
        body = _tuple(_ORIGINAL, flow) + _attribute(_MARK, struct.pack(">I", mark))
        return self._succeeds(_NEW, _family(flow), body, _ACK)

    def _succeeds(self, kind: int, family: int, body: bytes, flags: int) -> bool:
        said = self._ask(kind, family, body, flags)
        return len(said) >= 20 and struct.unpack("=i", said[16:20])[0] == 0

    def _ask(self, kind: int, family: int, body: bytes, flags: int) -> bytes:
        """Send one request and return the first message of the answer, with its header; empty when none came."""
        payload = struct.pack(">BBH", family, 0, 0) + body
        self._socket.send(struct.pack("=IHHII", 16 + len(payload), kind, _REQUEST | flags, 1, os.getpid()) + payload)
        try:
            said = self._socket.recv(65536)
        except OSError:
            return b""
        if len(said) >= 20 and struct.unpack("=H", said[4:6])[0] == _ERROR:
            code = struct.unpack("=i", said[16:20])[0]
            return said if not flags & _ACK or -code != errno.ENOENT else said[:16] + struct.pack("=i", code)
        return said


def _family(flow: Flow) -> int:
    return socket.AF_INET if flow.version == 4 else socket.AF_INET6


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack("=HH", data[:4])
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _tuple(kind: int, flow: Flow, *, answer: bool = False) -> bytes:
    source, target = (1, 2) if flow.version == 4 else (3, 4)
    addresses = _attribute(source, flow.source.packed) + _attribute(target, flow.target.packed)
    protocol = _attribute(1, bytes((flow.protocol,)))
    if flow.protocol == (ICMP if flow.version == 4 else ICMPV6):
        base = 4 if flow.version == 4 else 7
        number = ANSWERED_BY[flow.version].get(flow.query, 0) if answer else flow.query
        protocol += _attribute(base, struct.pack(">H", IDENTIFIER))
        protocol += _attribute(base + 1, bytes((number,))) + _attribute(base + 2, b"\0")
    else:
        protocol += _attribute(2, struct.pack(">H", flow.source_port)) + _attribute(3, struct.pack(">H", flow.target_port))
    return _attribute(kind | _NESTED, _attribute(1 | _NESTED, addresses) + _attribute(2 | _NESTED, protocol))

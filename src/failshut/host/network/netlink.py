"""Netlink by hand, as far as two questions need it: what the kernel logs, and whose a socket is (netlink(7)).

No library that is packaged and kept speaks NFLOG, and a general one's dump of every socket takes longer than a short program
lives.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 4, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
LARGEST = 1 << 17


class NetlinkError(OSError):
    """The kernel refused a request: `errno` and `strerror` say why."""


def open_netlink(family: int) -> socket.socket:
    """Return a netlink socket. Raises OSError where the kernel has no such family."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return a message with its header."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded to a multiple of 4."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes of a message's rest, by type."""
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return found


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each message of a datagram, until the end of a dump. Raises `NetlinkError`."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        body = datagram[at + _HEADER.size : at + length]
        at += length + -length % 4
        if kind == _DONE:
            return
        if kind == _ERROR:
            (code,) = struct.unpack_from("=i", body)
            if code:
                raise NetlinkError(-code, os.strerror(-code).lower())
            continue
        yield kind, body


def ask(channel: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """Yield the bodies of the answers to one question. Raises `NetlinkError`."""
    channel.send(message(kind, NLM_F_REQUEST | flags, body))
    dump = flags & NLM_F_DUMP == NLM_F_DUMP
    while True:
        datagram = channel.recv(LARGEST)
        yield from (answer for _, answer in messages(datagram))
        if not dump or ends(datagram):
            return


def ends(datagram: bytes) -> bool:
    """Whether a datagram is the last of its answer."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if kind in (_DONE, _ERROR) or length < _HEADER.size:
            return True
        at += length + -length % 4
    return False

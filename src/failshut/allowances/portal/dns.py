"""The little of DNS (RFC 1035) that a probe reads: the addresses in an answer. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from failshut.emit.dns import AAAA, A
from failshut.model.units import Address

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_RESPONSE = 0x8000
_POINTER = 0xC0


def answers(message: bytes, number: int) -> tuple[Address, ...] | None:
    """Return the addresses in a response to query `number`; None for what is no such response, or is cut."""
    try:
        given, flags, questions, records, _, _ = _HEADER.unpack_from(message)
        if given != number or not flags & _RESPONSE:
            return None
        offset = _HEADER.size
        for _ in range(questions):
            offset = _after_name(message, offset) + 4
        found: list[Address] = []
        for _ in range(records):
            offset = _after_name(message, offset)
            kind, _, _, length = _RECORD.unpack_from(message, offset)
            data = message[offset + _RECORD.size : offset + _RECORD.size + length]
            offset += _RECORD.size + length
            if len(data) != length:
                return None
            if (kind, len(data)) == (A, 4):
                found.append(IPv4Address(data))
            elif (kind, len(data)) == (AAAA, 16):
                found.append(IPv6Address(data))
    except (struct.error, IndexError):
        return None
    return tuple(found)


def _after_name(message: bytes, offset: int) -> int:
    """Return where a name ends; a pointer ends it."""
    while length := message[offset]:
        if length >= _POINTER:
            return offset + 2
        offset += 1 + length
    return offset + 1

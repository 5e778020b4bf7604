"""A question for a resolver, as it goes over the wire (RFC 1035 §4)."""

from __future__ import annotations

import struct

A, NS, AAAA = 1, 2, 28
ROOT = "."
_IN = 1
_RECURSION = 0x0100


def question(number: int, name: str, kind: int) -> bytes:
    """Return a query. Raises ValueError for a name that DNS can't say."""
    labels = [] if name == ROOT else [label.encode("idna") for label in name.rstrip(".").split(".")]
    if any(not 0 < len(each) < 64 for each in labels):
        raise ValueError(f"{name} is no host name")
    wire = b"".join(bytes((len(each),)) + each for each in labels) + b"\0"
    return struct.pack("!6H", number, _RECURSION, 1, 0, 0, 0) + wire + struct.pack("!HH", kind, _IN)

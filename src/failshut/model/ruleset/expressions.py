"""What a match looks at and what an assignment writes: loads of a packet's fields, and arithmetic on them."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.ruleset.values import AnyMap, SetRef
from failshut.model.ruleset.words import BitOp


@dataclass(frozen=True, slots=True)
class Meta:
    """A property of the packet that is not in its bytes (`oifname`, `mark`, `skuid`, `l4proto`, `nfproto`).

    A device that there is none of has the empty name and the index 0; the other keys are lacking where they make no sense.
    `skuid` compared with `missing` holds for a packet that no program sends; nft can't say it, and iptables' `! --uid-owner` does.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Payload:
    """A header field (`ip daddr`, `udp dport`, `th dport`, `icmpv6 type`); a packet of another protocol lacks it."""

    protocol: str
    field: str


@dataclass(frozen=True, slots=True)
class RawPayload:
    """Bits of the packet by their place: `@th,16,16`. `base` is `ll`, `nh`, `th` or `ih`; both numbers are bits."""

    base: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Ct:
    """A property of the packet's connection (`state`, `mark`, `status`), or of one of its directions (`original`, `reply`)."""

    key: str
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Fib:
    """A question to the routing table: `fib saddr . oif type`."""

    flags: tuple[str, ...]
    result: str


@dataclass(frozen=True, slots=True)
class Exthdr:
    """An IPv6 extension header's field; without a field, whether the packet has it (compared with `exists` or `missing`)."""

    name: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class HeaderOption:
    """An option of a header (`tcp option maxseg size`, `ip option rr type`); without a field, whether the packet has it."""

    protocol: str
    name: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Socket:
    """A property of the local socket that the packet belongs to (`transparent`, `mark`, `wildcard`, `cgroupv2` at a `level`)."""

    key: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Rt:
    """A property of the packet's route (`nexthop`, `classid`, `mtu`, `ipsec`)."""

    key: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that depends on more than the packet, or that was read and not understood: it may be anything, each time anew."""

    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    """`meta mark & 0xff`, `ct mark << 8 | 0x1`."""

    op: BitOp
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Concat:
    """Several values side by side: `ip daddr . udp dport`. A constant may stand among the fields of a set's key."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The value that a map holds for a key. A key that is not in the map ends the rule."""

    key: Left
    map: AnyMap | SetRef


Left = Meta | Payload | RawPayload | Ct | Fib | Exthdr | HeaderOption | Socket | Rt | Opaque | Binary | Concat | Lookup
# A bare number is a constant.
Expression = Left | int


def masked(of: Expression, mask: int) -> Binary:
    """Return some bits of a value: `meta mark & 0x10000000`."""
    return Binary(BitOp.AND, of, mask)

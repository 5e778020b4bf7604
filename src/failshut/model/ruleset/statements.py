"""What a rule does, one statement after the other."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.ruleset.expressions import Ct, Expression, Exthdr, HeaderOption, Left, Lookup, Meta, Payload, RawPayload
from failshut.model.ruleset.values import AnyMap, Right, Scalar, SetRef
from failshut.model.ruleset.words import NatKind, Op, Verdict


class Threshold:
    """The rule goes on by what the kernel has counted so far, whatever the packet is."""

    __slots__ = ()


class Neutral:
    """Gives no verdict, and changes nothing that a rule can ask for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Match:
    """The rule goes on only if the comparison holds; a field that the packet lacks ends the rule, whatever the operator.

    Compared with a set, `EQ` asks whether the value is in it and `NE` whether it is not.
    """

    left: Left
    right: Right
    op: Op = Op.EQ


@dataclass(frozen=True, slots=True)
class UnknownMatch:
    """A match that was read and not understood: it may hold or not, for any packet, each time anew. It does nothing else."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that was read and not understood, kept as it stood: it may do anything, also give any verdict.

    Never written, always drift.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Jump:
    """Go to another chain and come back, or not (`goto`)."""

    target: str
    goto: bool = False


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """The element that the key equals gives the verdict; none: the rule ends."""

    key: Left
    map: AnyMap | SetRef


@dataclass(frozen=True, slots=True)
class Reject:
    """Drop, and tell the sender: `tcp reset`, or an ICMP code (`icmp`, `icmpv6`, or `icmpx` for both families).

    Without a kind it is the family's port-unreachable. A kind ends the rule for a packet that it does not fit: `tcp reset` for
    other protocols, `icmp` for IPv6, `icmpv6` for IPv4.
    """

    kind: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Counter(Neutral):
    """Count packets and bytes; a named one is an object of the table and outlives its rules."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Limit(Threshold):
    """The rule goes on at most `rate` times per `per`, after a burst of `burst` packets; with `over`, only beyond that.

    `unit` is empty for packets, else `bytes`, `kbytes` or `mbytes`, and `burst` then has its own unit.
    """

    rate: int
    per: str
    burst: int = 5
    over: bool = False
    unit: str = ""
    burst_unit: str = ""


@dataclass(frozen=True, slots=True)
class Quota(Threshold):
    """The rule goes on until `size` bytes have passed; with `over`, only after."""

    size: int
    over: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionLimit(Threshold):
    """The rule goes on while there are at most `count` connections; with `over`, while there are more."""

    count: int
    over: bool = False


@dataclass(frozen=True, slots=True)
class ObjectRef(Neutral):
    """Use an object of the table: a `limit`, a `quota`, a `ct helper`, ... By a name, or by one that a map gives."""

    kind: str
    name: str | Lookup

    @property
    def is_threshold(self) -> bool:
        """Whether it is a `Threshold`, and not neutral: it depends on the object."""
        return self.kind in ("limit", "quota", "ct count")


@dataclass(frozen=True, slots=True)
class Log(Neutral):
    """Tell the kernel log (`prefix`, `level`, `flags`) or, with `group`, a listener on NFLOG."""

    prefix: str = ""
    level: str = ""
    group: int | None = None
    snaplen: int | None = None
    queue_threshold: int | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assign:
    """Write a value into the packet's metadata, its connection, or its bytes: `meta mark set ct mark & 0xff`."""

    target: Meta | Ct | Payload | RawPayload | Exthdr | HeaderOption
    value: Expression | Scalar


@dataclass(frozen=True, slots=True)
class Update:
    """Change a dynamic set by the packet's own key: `add`, `update` (add or renew), `delete`. A full set ends the rule.

    With `data`, the set is a map. `statements` belong to the element (a limit per address): one that fails ends the rule.
    `timeout` is in seconds, 0 for the set's own.
    """

    set: str
    key: Left
    operation: str = "update"
    data: Expression | Scalar | None = None
    timeout: int = 0
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Nat:
    """Translate the connection's addresses and accept the packet in this chain. `family` is said in inet tables.

    A part that is None stays, or is the kernel's choice (`masquerade`, `redirect`). A looked-up address may bring its port along
    (data type `ipv4_addr . inet_service`), or be a range.
    """

    kind: NatKind
    address: Expression | Scalar | None = None
    port: Expression | Scalar | None = None
    family: str = ""
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Notrack:
    """Leave the packet out of connection tracking, unless it is in already."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Give the packet to a program, whose verdict may be any. `bypass`: accept it when no program listens, else drop it."""

    number: str
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tproxy(Neutral):
    """Hand the packet to a local socket."""

    family: str = ""
    address: Expression | Scalar | None = None
    port: Expression | Scalar | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Send a copy of the packet to an address or a device: a packet that no later rule of this packet's way judges."""

    address: Expression | Scalar | None = None
    device: Expression | Scalar | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the packet itself out of another device, from a netdev chain. No other chain sees it."""

    device: Expression | Scalar
    address: Expression | Scalar | None = None
    family: str = ""


@dataclass(frozen=True, slots=True)
class Offload(Neutral):
    """Let the connection's next packets go by a flowtable, past the forward hook."""

    flowtable: str


@dataclass(frozen=True, slots=True)
class Synproxy:
    """Answer a TCP handshake in the server's place. `text` are its options."""

    text: str = ""


Statement = (
    Match
    | UnknownMatch
    | Unknown
    | Verdict
    | Jump
    | VerdictMap
    | Reject
    | Counter
    | Limit
    | Quota
    | ConnectionLimit
    | ObjectRef
    | Log
    | Assign
    | Update
    | Nat
    | Notrack
    | Queue
    | Tproxy
    | Duplicate
    | Forward
    | Offload
    | Synproxy
)

"""What the kernel runs: tables, chains, hooks, rules. One model for what we write and for what is read back.

The expressions follow nftables' own vocabulary (nft(8), libnftables-json(5)), because iptables rules can be said in it and not the
other way round. Everything is frozen and compares by value: drift is `!=`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from failshut.model.units import Address, Prefix


class Family(StrEnum):
    """A table's address family."""

    INET = "inet"
    IP = "ip"
    IP6 = "ip6"
    ARP = "arp"
    NETDEV = "netdev"
    BRIDGE = "bridge"


class Hook(StrEnum):
    """Where in a packet's way through the kernel a base chain is called."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"
    INGRESS = "ingress"
    EGRESS = "egress"


class ChainType(StrEnum):
    """A base chain's type. `ROUTE` re-routes when the mark or an address changed."""

    FILTER = "filter"
    ROUTE = "route"
    NAT = "nat"


class Op(StrEnum):
    """A comparison. `IN` is nft's implicit bitmask test of flag types (`ct state established,related`)."""

    EQ = "=="
    NE = "!="
    LT = "<"
    GT = ">"
    LE = "<="
    GE = ">="
    IN = "in"


# --- what a match looks at ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meta:
    """A property of the packet that is not in its bytes (`oifname`, `mark`, `skuid`, `l4proto`)."""

    key: str


@dataclass(frozen=True, slots=True)
class Payload:
    """A header field (`ip daddr`, `udp dport`, `th dport`, `icmpv6 type`)."""

    protocol: str
    field: str


@dataclass(frozen=True, slots=True)
class Ct:
    """A property of the packet's connection (`state`, `direction`, `mark`)."""

    key: str


@dataclass(frozen=True, slots=True)
class Fib:
    """A question to the routing table: `fib saddr . oif type`."""

    flags: tuple[str, ...]
    result: str


@dataclass(frozen=True, slots=True)
class Exthdr:
    """Whether an IPv6 packet has an extension header (`rt`, `frag`); compared with `exists` or `missing`."""

    name: str


@dataclass(frozen=True, slots=True)
class Masked:
    """Some bits of a value: `meta mark & 0x10000000`."""

    of: Meta | Ct
    mask: int


@dataclass(frozen=True, slots=True)
class Concat:
    """Several values side by side: `ip daddr . udp dport`. A constant may stand among the fields of a set's key."""

    parts: tuple[Meta | Payload | Ct | int, ...]


Left = Meta | Payload | Ct | Fib | Exthdr | Masked | Concat

# --- what it is compared with ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Tuple:
    """One element of a concatenation."""

    parts: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AnySet:
    """An anonymous set: any of these. At least two elements; one alone is said as that one."""

    elements: tuple[Scalar | Tuple, ...]


@dataclass(frozen=True, slots=True)
class SetRef:
    """A named set of the same table."""

    name: str


Scalar = int | str | Address | Prefix | Range
Right = Scalar | Tuple | AnySet | SetRef

# --- statements -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """The rule goes on only if the comparison holds; a field that the packet lacks ends the rule, whatever the operator."""

    left: Left
    right: Right
    op: Op = Op.EQ


class Verdict(StrEnum):
    """A verdict that names no chain."""

    ACCEPT = "accept"
    DROP = "drop"
    RETURN = "return"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Jump:
    """Go to another chain and come back, or not (`goto`)."""

    target: str
    goto: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """Drop, and tell the sender: `tcp reset`, or an ICMP code for both families (`icmpx admin-prohibited`)."""

    kind: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Counter:
    """Count packets and bytes; a named one is an object of the table and outlives its rules."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """The rule goes on at most `rate` times per `per`, after a burst of `burst` packets."""

    rate: int
    per: str
    burst: int = 5


@dataclass(frozen=True, slots=True)
class Log:
    """Tell the kernel log (`prefix`, `level`) or, with `group`, a listener on NFLOG."""

    prefix: str = ""
    level: str = ""
    group: int | None = None


@dataclass(frozen=True, slots=True)
class SetMark:
    """Replace the bits of a mark: new = (old & keep) ^ or | value. `keep` 0 writes the whole mark."""

    target: Meta | Ct
    value: int
    keep: int = 0


@dataclass(frozen=True, slots=True)
class MapMark:
    """Write a mark looked up by a key; a key that is not in the map ends the rule."""

    target: Meta | Ct
    key: Left
    elements: tuple[tuple[Scalar, int], ...]


@dataclass(frozen=True, slots=True)
class Update:
    """Add an element to a dynamic set, or renew it. A full set ends the rule."""

    set: str
    key: Concat


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """The first element that the key equals gives the verdict; none: the rule ends."""

    key: Left
    elements: tuple[tuple[Scalar | Tuple, Verdict | Jump], ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that was read and that this version does not understand, kept as it stood. Never written, always drift."""

    text: str


Statement = Match | Verdict | Jump | Reject | Counter | Limit | Log | SetMark | MapMark | Update | VerdictMap | Unknown

# --- the containers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements from left to right; the first match that fails ends the rule. `comment` says why the rule is there."""

    statements: tuple[Statement, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """How a base chain hangs in the kernel. `priority` is a signed 32-bit number; `device` only for ingress and egress."""

    type: ChainType
    hook: Hook
    priority: int
    policy: Verdict
    device: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """A list of rules: a base chain when it has a `base`, else one that is jumped to."""

    name: str
    rules: tuple[Rule, ...] = ()
    base: Base | None = None


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set with a name. `key` are nft's type names in order; times are in seconds, 0 for none.

    Elements of a dynamic set are the kernel's business and are not part of the model.
    """

    name: str
    key: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    size: int = 0
    timeout: int = 0
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one family: named counters, sets, chains."""

    family: Family
    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet, ...] = ()
    counters: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()

    def chain(self, name: str) -> Chain | None:
        """Return the chain of that name, or None."""
        return next((each for each in self.chains if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Tables in the order in which they are written."""

    tables: tuple[Table, ...] = field(default=())

    def table(self, family: Family, name: str) -> Table | None:
        """Return that table, or None."""
        return next((each for each in self.tables if (each.family, each.name) == (family, name)), None)

    def canonical(self) -> Ruleset:
        """Return the same rules in one order.

        The kernel lists chains as they were made and sets as it sorts them; neither changes any packet's way.
        """
        return Ruleset(tuple(sorted((_sorted(table) for table in self.tables), key=lambda each: (each.family, each.name))))


def _sorted(table: Table) -> Table:
    return replace(
        table,
        chains=tuple(sorted((_sorted_sets(chain) for chain in table.chains), key=lambda each: each.name)),
        sets=tuple(sorted(table.sets, key=lambda each: each.name)),
        counters=tuple(sorted(table.counters)),
    )


def _sorted_sets(chain: Chain) -> Chain:
    rules = tuple(replace(rule, statements=tuple(_sorted_set(each) for each in rule.statements)) for rule in chain.rules)
    return replace(chain, rules=rules)


def _sorted_set(statement: Statement) -> Statement:
    if isinstance(statement, Match) and isinstance(statement.right, AnySet):
        elements = tuple(sorted(statement.right.elements, key=repr))
        return replace(statement, right=AnySet(elements))
    return statement

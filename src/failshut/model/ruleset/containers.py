"""Rules, chains, sets, tables, and the whole of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import le
from typing import Any, TypeVar

from failshut.model.ruleset.statements import Jump, Limit, Quota, Statement
from failshut.model.ruleset.values import AnyMap, AnySet, Element, Scalar, Tuple
from failshut.model.ruleset.words import ChainType, Engine, Family, Hook, Verdict
from failshut.model.same import once
from failshut.model.units import bounds

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was read: a file's name as it was given, a line that counts from 1, and the text that stood there."""

    file: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements from left to right; the first match that fails ends the rule. `comment` says why the rule is there."""

    statements: tuple[Statement, ...]
    comment: str = ""
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Base:
    """How a base chain hangs in the kernel. `priority` is a signed 32-bit number; `device` only for ingress and egress.

    Several devices are joined by commas.
    """

    type: ChainType
    hook: Hook
    priority: int
    policy: Verdict
    device: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """A list of rules: a base chain when it has a `base`, else one that is jumped to. `flags`: `offload` (to a device)."""

    name: str
    rules: tuple[Rule, ...] = ()
    base: Base | None = None
    flags: frozenset[str] = frozenset()
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """An element that the kernel takes out of its set: `timeout` seconds after it was put in, which is `left` seconds from now.

    `left` is None where the listing does not say it (`nft --stateless`).
    """

    element: Element
    timeout: int
    left: int | None = None


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set with a name. `key` are nft's type names in order; times are in seconds, 0 for none.

    `elements` are None when they are not known (an ipset without its dump). Those of a dynamic set are the kernel's business and
    are not part of the model: `contents` says what may be relied on. `ends` are those of the elements that a listing gave an end.
    """

    name: str
    key: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    size: int = 0
    timeout: int = 0
    counter: bool = False
    elements: tuple[Element, ...] | None = ()
    origin: Origin | None = field(default=None, compare=False)
    ends: tuple[Ending, ...] = field(default=(), compare=False)

    @property
    def contents(self) -> tuple[Element, ...] | None:
        """The elements, or None when packets, time or somebody unknown decides what is in the set."""
        return None if self.flags & {"dynamic", "timeout"} or self.timeout else self.elements


@dataclass(frozen=True, slots=True)
class NamedMap:
    """A map with a name, as `NamedSet`. `data` are type names too; `("verdict",)` makes it a verdict map."""

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    size: int = 0
    timeout: int = 0
    elements: tuple[tuple[Element, Scalar | Tuple | Verdict | Jump], ...] | None = ()
    origin: Origin | None = field(default=None, compare=False)

    @property
    def contents(self) -> tuple[tuple[Element, Scalar | Tuple | Verdict | Jump], ...] | None:
        """The elements, or None when packets, time or somebody unknown decides what is in the map."""
        return None if self.flags & {"dynamic", "timeout"} or self.timeout else self.elements


@dataclass(frozen=True, slots=True)
class Flowtable:
    """Devices between which connections may be offloaded."""

    name: str
    priority: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Object:
    """Another object with a name: `limit`, `quota`, `ct helper`, `ct timeout`, `secmark`, `synproxy`, ..."""

    kind: str
    name: str
    statement: Limit | Quota | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one family: named counters, sets, maps, chains. With the flag `dormant` none of its chains is called."""

    family: Family
    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet, ...] = ()
    counters: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    maps: tuple[NamedMap, ...] = ()
    flowtables: tuple[Flowtable, ...] = ()
    objects: tuple[Object, ...] = ()
    engine: Engine = Engine.NFT

    def chain(self, name: str) -> Chain | None:
        """Return the chain of that name, or None."""
        return next((each for each in self.chains if each.name == name), None)

    def statements(self) -> Iterator[Statement]:
        """Yield what stands in its rules, chain by chain."""
        return (each for chain in self.chains for rule in chain.rules for each in rule.statements)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Tables in the order in which they are written."""

    tables: tuple[Table, ...] = field(default=())

    def table(self, family: Family, name: str) -> Table | None:
        """Return that table, or None."""
        return next((each for each in self.tables if (each.family, each.name) == (family, name)), None)

    def statements(self) -> Iterator[Statement]:
        """Yield what stands in every rule, table by table."""
        return (each for table in self.tables for each in table.statements())

    def canonical(self) -> Ruleset:
        """Return the same rules in one order.

        The kernel lists chains as they were made and sets as it sorts them; neither changes any packet's way.
        """
        tables = (_sorted(table) for table in self.tables)
        return Ruleset(tuple(sorted(tables, key=lambda each: (each.family, each.name, each.engine))))


def _sorted(table: Table) -> Table:
    return replace(
        table,
        chains=_by_name(replace(chain, rules=tuple(_in_order(rule) for rule in chain.rules)) for chain in table.chains),
        sets=_by_name(replace(each, elements=each.elements and _in_one_order(each.elements)) for each in table.sets),
        maps=_by_name(replace(each, elements=each.elements and _in_one_order(each.elements)) for each in table.maps),
        flowtables=_by_name(replace(each, devices=tuple(sorted(each.devices))) for each in table.flowtables),
        objects=tuple(sorted(table.objects, key=lambda each: (each.kind, each.name))),
        counters=tuple(sorted(table.counters)),
    )


def _by_name(named: Any) -> tuple[Any, ...]:
    return tuple(sorted(named, key=lambda each: each.name))


@once
def _in_one_order(elements: tuple[_T, ...]) -> tuple[_T, ...]:
    places = list(map(_place, elements))
    return elements if all(map(le, places, places[1:])) else tuple(sorted(elements, key=_place))


def _place(element: object) -> tuple[int, int, int, str]:
    """Return where an element stands among others, the wider before the narrower. A number is a number, read, a mark or a port.

    Addresses are compared as numbers: to write down each of 100,000 takes longer than the kernel needs to load them.
    """
    match element:
        case IPv4Network() | IPv6Network():
            low, high = bounds(element)
            return element.version, low, -high, ""
        case int():
            return 0, element, 0, ""
        case IPv4Address() | IPv6Address():
            return element.version, int(element), -int(element), ""
        case (key, _):
            return _place(key)
    return 7, 0, 0, repr(element)


def _in_order(rule: Rule) -> Rule:
    return replace(rule, statements=tuple(_sorted_within(each) for each in rule.statements))


def _sorted_within(value: _T) -> _T:
    """Return the same statement or expression with every anonymous set and map in it sorted."""
    if isinstance(value, AnySet):
        return replace(value, elements=_in_one_order(value.elements))
    if isinstance(value, AnyMap):
        return replace(value, elements=_in_one_order(value.elements))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {each.name: getattr(value, each.name) for each in fields(value)}
    return replace(value, **{name: _sorted_within(part) for name, part in changed.items() if is_dataclass(part)})

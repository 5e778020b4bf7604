"""An expression and a comparison as formulas over the packet's variables."""

from __future__ import annotations

from dataclasses import dataclass, field

import z3

from failshut.audit.netfilter.fields import IFNAME, load_of, loads_of, membership
from failshut.audit.netfilter.route import holds_anything, map_elements, set_elements, timed_elements
from failshut.audit.netfilter.words import NotUnderstoodError, interval, number
from failshut.audit.symbolic.formula import Bool, Number, as_bits, choose, conj, disj, merged, neg, same, within
from failshut.audit.symbolic.large import MANY
from failshut.audit.symbolic.space import Space
from failshut.model.ruleset import (
    AnySet,
    Binary,
    BitOp,
    CatchAll,
    Concat,
    Lookup,
    Match,
    Op,
    SetRef,
    Table,
    Tuple,
)
from failshut.model.same import once
from failshut.model.symbols import EXTENSIONS


@dataclass(frozen=True, slots=True)
class Env:
    """What rules have written so far; a field that is not here is as it began. `version` tells environments apart."""

    written: dict[str, Number] = field(default_factory=dict)
    version: int = 0
    # A route is looked up with what the packet is by now: `fib` in another hook, or after a translation, may answer otherwise.
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: its table's sets, and whether the packet's connection is known yet."""

    space: Space
    env: Env
    table: Table | None
    early: bool = False

    def read(self, name: str, width: int, kind: str = "number") -> Number:
        """Return a field's value here."""
        if self.early and name.startswith("ct "):
            return self.space.variable(f"early {name}", width, kind)
        if name in self.env.written:
            return self.env.written[name]
        if name.startswith("fib "):
            name = f"{name} @{self.env.stage}"
        return self.space.variable(name, width, kind)

    def has(self, requires: tuple[tuple[str, tuple[int, ...]], ...]) -> Bool:
        """Return when the packet has a field."""
        return conj([within(self.read(name, _REQUIRED[name]), [(v, v) for v in values]) for name, values in requires])


_REQUIRED = {"nfproto": 8, "ethertype": 16, "l4proto": 8, "later fragment": 1, "socket": 1, "ct state": 32, "icmp type": 8}
_REQUIRED |= {f"exthdr {each}": 1 for each in EXTENSIONS}


@dataclass(frozen=True, slots=True)
class Term:
    """A value, when the packet has it, its width in bits, and its data type."""

    present: Bool
    value: Number | tuple[Term, ...]
    width: int
    kind: str = "number"


def term(scope: Scope, left: object, right: object = None) -> Term:
    """Return an expression. Raises NotUnderstoodError."""
    match left:
        case int():
            return Term(True, left, max(left.bit_length(), 1))
        case Concat(parts):
            inner = tuple(term(scope, each) for each in parts)
            return Term(conj([each.present for each in inner]), inner, sum(each.width for each in inner))
        case Binary():
            return _binary(scope, left)
        case Lookup(key, source):
            return _lookup(scope, key, source)
        case _:
            load = load_of(left, right, scope.table.family if scope.table else None)
            return Term(scope.has(load.requires), scope.read(load.name, load.width, load.kind), load.width, load.kind)


def _binary(scope: Scope, left: Binary) -> Term:
    one, two = term(scope, left.left), term(scope, left.right)
    if isinstance(one.value, tuple) or isinstance(two.value, tuple) or IFNAME in (one.kind, two.kind):
        raise NotUnderstoodError("arithmetic on something that is no number")
    if isinstance(left.left, int):
        width = two.width
    elif isinstance(left.right, int):
        width = one.width
    else:
        width = max(one.width, two.width)
    return Term(conj([one.present, two.present]), _computed(left.op, one.value, two.value, width), width)


def _computed(op: BitOp, one: Number, two: Number, width: int) -> Number:  # noqa: PLR0911 - one line an operator
    if isinstance(one, int) and isinstance(two, int):
        full = (1 << width) - 1
        table = {BitOp.AND: one & two, BitOp.OR: one | two, BitOp.XOR: one ^ two}
        if op in table:
            return table[op] & full
        return (one << min(two, 128)) & full if op is BitOp.LEFT else one >> two
    a, b = as_bits(one, width), as_bits(two, width)
    match op:
        case BitOp.AND:
            return a & b
        case BitOp.OR:
            return a | b
        case BitOp.XOR:
            return a ^ b
        case BitOp.LEFT:
            return a << b
        case BitOp.RIGHT:
            return z3.LShR(a, b)


def _lookup(scope: Scope, key: object, source: object) -> Term:
    elements = map_elements(scope.table, source) if scope.table else None
    if elements is None:
        raise NotUnderstoodError("the map's elements are not known")
    found = term(scope, key)
    conditions = entry_conditions(scope, found, elements)
    value: Number = 0
    for condition, (_, data) in zip(conditions, elements, strict=True):
        value = choose(condition, number(data, "number"), value, 32)  # type: ignore[arg-type] # refused there
    return Term(conj([found.present, disj(conditions)]), value, 32)


def entry_conditions(scope: Scope, key: Term, elements: tuple[tuple[object, object], ...]) -> list[Bool]:
    """Return for each entry of a map when it is the one. Entries don't overlap but for the one that catches the rest."""
    plain = [holds(scope, key, each) for each, _ in elements if not isinstance(each, CatchAll)]
    rest = neg(disj(plain)) if len(plain) < len(elements) else False
    waiting = iter(plain)
    return [rest if isinstance(each, CatchAll) else next(waiting) for each, _ in elements]


def holds(scope: Scope, left: Term, element: object) -> Bool:
    """Return when a constant stands for a value. Raises NotUnderstoodError."""
    return member(scope, left, (element,))


def member(scope: Scope, left: Term, elements: tuple[object, ...]) -> Bool:
    """Return when one of these constants stands for a value. Raises NotUnderstoodError."""
    if CatchAll in map(type, elements):
        return True
    if isinstance(left.value, tuple):
        return disj([_tuple(scope, left.value, each) for each in elements])
    if left.kind == IFNAME:
        if not all(isinstance(each, str) for each in elements):
            raise NotUnderstoodError("a device by its number")
        return within(left.value, [pair for each in elements for pair in scope.space.indices(str(each))])
    intervals = _intervals(elements, left.kind)
    if isinstance(left.value, int):
        return within(left.value, intervals)
    return scope.space.in_many(left.value, intervals) if len(intervals) > MANY else scope.space.in_few(left.value, intervals)


@once
def _intervals(elements: tuple[object, ...], kind: str) -> tuple[tuple[int, int], ...]:
    return tuple(merged(interval(each, kind) for each in elements))  # type: ignore[arg-type] # refused there


def _tuple(scope: Scope, parts: tuple[Term, ...], element: object) -> Bool:
    if not isinstance(element, Tuple) or len(element.parts) != len(parts):
        raise NotUnderstoodError("an element of another shape than its key")
    return conj([holds(scope, part, each) for part, each in zip(parts, element.parts, strict=True)])


def matches(scope: Scope, match: Match) -> Bool:
    """Return when a match holds. Raises NotUnderstoodError."""
    left = term(scope, match.left, match.right)
    if isinstance(match.right, SetRef) and holds_anything(scope.table, match.right.name):
        return conj([left.present, _in_set(scope, match, match.right.name)])
    elements: tuple[object, ...] | None = (match.right,)
    if isinstance(match.right, AnySet):
        elements = match.right.elements
    elif isinstance(match.right, SetRef):
        elements = set_elements(scope.table, match.right.name) if scope.table else None
    if elements is None:
        raise NotUnderstoodError("the set's elements are not known")
    compared = _compared(scope, left, elements, match.op)
    return conj([left.present, compared])


def _in_set(scope: Scope, match: Match, name: str) -> Bool:
    """Return one truth for a key of the packet as it began, whoever asks for it. Raises NotUnderstoodError."""
    for each in loads_of(match.left):
        if each.name in scope.env.written and scope.env.written[each.name] is not scope.space.variable(each.name, each.width):
            raise NotUnderstoodError(f"whether {each.name}, once it was written, is in {name}")
    found = same(scope.space.variable(membership(match.left, name), 1), 1)
    match match.op:
        case Op.EQ:
            return found
        case Op.NE:
            return neg(found)
    raise NotUnderstoodError(f"an order of what is in {name}")


def at_most(scope: Scope, match: Match) -> Bool:
    """Return what a match that can't be followed needs all the same: the field, and to be in what its set began with."""
    try:
        left = term(scope, match.left, match.right)
        elements = timed_elements(scope.table, match) if scope.table else None
        return left.present if elements is None else conj([left.present, member(scope, left, elements)])
    except NotUnderstoodError:
        return True


def _compared(scope: Scope, left: Term, elements: tuple[object, ...], op: Op) -> Bool:  # noqa: PLR0911 - one line an operator
    if op is Op.EQ:
        return member(scope, left, elements)
    if op is Op.NE:
        return neg(member(scope, left, elements))
    if isinstance(left.value, tuple) or left.kind == IFNAME:
        raise NotUnderstoodError("an order of what is no number")
    numbers = [number(each, left.kind) for each in elements]  # type: ignore[arg-type] # refused there
    top = (1 << left.width) - 1
    match op:
        case Op.IN | Op.NOT_IN:
            bits = 0
            for each in numbers:
                bits |= each
            zero = same(_computed(BitOp.AND, left.value, bits, left.width), 0)
            return zero if op is Op.NOT_IN else neg(zero)
        case Op.LT:
            return within(left.value, [(0, numbers[0] - 1)])
        case Op.LE:
            return within(left.value, [(0, numbers[0])])
        case Op.GT:
            return within(left.value, [(numbers[0] + 1, top)])
        case Op.GE:
            return within(left.value, [(numbers[0], top)])

"""What an expression is for one packet, and whether a comparison with it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from failshut.audit.netfilter.fields import IFNAME, Load, load_of, membership
from failshut.audit.netfilter.route import holds_anything, map_elements, set_elements, timed_elements
from failshut.audit.netfilter.words import NotUnderstoodError, interval, names_match, number
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

Value = int | str | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Values:
    """A packet as one chain's rules see it. Before its connection is looked up (`early`), `ct` finds nothing of it."""

    now: Mapping[str, int | str]
    table: Table | None
    early: bool = False

    def has(self, load: Load) -> bool:
        """Whether the packet has the field."""
        return all(self._get(name) in wanted for name, wanted in load.requires)

    def _get(self, name: str) -> int | str:
        key = f"early {name}" if self.early and name.startswith("ct ") else name
        if name.startswith("fib "):
            key = f"{name} @{self.now.get('stage', '')}"
        return self.now.get(key, "" if name.endswith("name") else 0)

    def of(self, left: object, right: object = None) -> Value | None:
        """Return an expression's value; None when the packet lacks it. Raises NotUnderstoodError."""
        match left:
            case int():
                return left
            case Concat(parts):
                values = [self.of(each) for each in parts]
                return None if any(each is None for each in values) else tuple(each for each in values if each is not None)
            case Binary():
                return self._binary(left)
            case Lookup(key, source):
                return self._lookup(left, key, source)
            case _:
                load = load_of(left, right, self.table.family if self.table else None)
                if not self.has(load):
                    return None
                value = self._get(load.name)
                return value if isinstance(value, str) else value & ((1 << load.width) - 1)

    def _binary(self, left: Binary) -> Value | None:
        one, two = self.of(left.left), self.of(left.right)
        if one is None or two is None:
            return None
        if not isinstance(one, int) or not isinstance(two, int):
            raise NotUnderstoodError("arithmetic on something that is no number")
        full = (1 << width_of(left)) - 1
        match left.op:
            case BitOp.AND:
                return one & two
            case BitOp.OR:
                return one | two
            case BitOp.XOR:
                return one ^ two
            case BitOp.LEFT:
                return (one << two) & full
            case BitOp.RIGHT:
                return one >> two

    def _lookup(self, left: Lookup, key: object, source: object) -> Value | None:
        elements = map_elements(self.table, source) if self.table else None
        if elements is None:
            raise NotUnderstoodError(f"the map of {left} is not known")
        value = self.of(key)
        found = None if value is None else self.find(value, elements, key)
        if found is None:
            return None
        return number(found, "number")  # type: ignore[arg-type] # what is no number is refused there

    def find(self, value: object, elements: tuple[tuple[object, object], ...], key: object) -> object:
        """Return what a map holds for a key, or None."""
        ordinary = [each for each in elements if not isinstance(each[0], CatchAll)]
        for element, data in ordinary:
            if element_holds(value, element, key):  # type: ignore[arg-type] # what is no value is refused there
                return data
        return next((data for element, data in elements if isinstance(element, CatchAll)), None)


def width_of(left: object) -> int:
    """Return an expression's width in bits. Raises NotUnderstoodError."""
    match left:
        case int():
            return 0
        case Binary():
            return max(width_of(left.left), width_of(left.right))
        case Lookup():
            return 32
        case _:
            return load_of(left).width


def kind_of(left: object, right: object = None) -> str:
    """Return an expression's data type. Raises NotUnderstoodError."""
    return "number" if isinstance(left, int | Binary | Lookup) else load_of(left, right).kind


def element_holds(value: Value, element: object, left: object) -> bool:
    """Whether a constant, an element of a set, stands for this value."""
    match element:
        case CatchAll():
            return True
        case Tuple(parts):
            if not isinstance(value, tuple) or not isinstance(left, Concat) or len(value) != len(parts):
                raise NotUnderstoodError("an element of another shape than its key")
            return all(element_holds(v, e, k) for v, e, k in zip(value, parts, left.parts, strict=True))
        case _:
            return _scalar_holds(value, element, kind_of(left, element))


def _scalar_holds(value: Value, element: object, kind: str) -> bool:
    if kind == IFNAME:
        if not isinstance(element, str) or not isinstance(value, str):
            raise NotUnderstoodError("a device by its number")
        return names_match(element, value)
    if not isinstance(value, int):
        raise NotUnderstoodError("a constant of another type")
    low, high = interval(element, kind)  # type: ignore[arg-type] # what is no scalar is refused there
    return low <= value <= high


def compare(values: Values, match: Match) -> bool:
    """Whether a match holds. Raises NotUnderstoodError."""
    left, right, op = match.left, match.right, match.op
    value = values.of(left, right)
    if value is None:
        return False
    if isinstance(right, SetRef) and op in (Op.EQ, Op.NE) and holds_anything(values.table, right.name):
        return bool(values.now.get(membership(left, right.name), 0)) is (op is Op.EQ)
    elements: tuple[object, ...] | None = (right,)
    if isinstance(right, AnySet):
        elements = right.elements
    elif isinstance(right, SetRef):
        elements = set_elements(values.table, right.name) if values.table else None
    if elements is None:
        raise NotUnderstoodError("the set's elements are not known")
    return _compared(value, elements, op, left)


def may_hold(values: Values, match: Match) -> bool:
    """Whether a match that can't be followed could hold at all: the packet has the field, and its set began with the value."""
    try:
        value = values.of(match.left, match.right)
        elements = timed_elements(values.table, match) if values.table else None
        return value is not None and (elements is None or any(element_holds(value, each, match.left) for each in elements))
    except NotUnderstoodError:
        return True


def _compared(value: Value, elements: tuple[object, ...], op: Op, left: object) -> bool:
    if op in (Op.EQ, Op.NE):
        found = [element_holds(value, each, left) for each in elements]
        return any(found) is (op is Op.EQ)
    if not isinstance(value, int):
        raise NotUnderstoodError("an order of what is no number")
    kind = kind_of(left)
    if op in (Op.IN, Op.NOT_IN):
        bits = 0
        for each in elements:
            bits |= number(each, kind)  # type: ignore[arg-type] # what is no number is refused there
        return bool(value & bits) is (op is Op.IN)
    than = number(elements[0], kind)  # type: ignore[arg-type] # what is no number is refused there
    return {Op.LT: value < than, Op.GT: value > than, Op.LE: value <= than, Op.GE: value >= than}[op]


def written(values: Values, value: object, load: Load) -> int | str | None:
    """Return what an assignment writes, in the field's width; None when the packet lacks what is to be written."""
    if isinstance(value, str) or not _is_expression(value):
        return number(value, load.kind)  # type: ignore[arg-type] # what is no number is refused there
    new = values.of(value)
    if isinstance(new, tuple):
        raise NotUnderstoodError("a concatenation can't be written")
    return new & ((1 << load.width) - 1) if isinstance(new, int) else new


def _is_expression(value: object) -> bool:
    return type(value).__module__.endswith("ruleset.expressions") or isinstance(value, int)

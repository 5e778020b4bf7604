"""What a question says of a packet: comparisons in the rules' own language, of the packet as it began or as it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from failshut.model.ruleset import AnySet, CatchAll, Element, Left, Match, Op, Right, Scalar


class When(StrEnum):
    """A packet's mark, addresses and device change on its way."""

    START = "start"
    END = "end"


@dataclass(frozen=True, slots=True)
class Is:
    """A match of the rules' language. As in a rule, it does not hold when the packet lacks what it asks for."""

    match: Match
    when: When = When.END


@dataclass(frozen=True, slots=True)
class FieldIn:
    """A field of `netfilter.fields`, or one that no rule can ask for, has one of these numbers at the start."""

    name: str
    width: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceIs:
    """A field that holds a device's name is one of these at the start; the empty name is no device. A last `*` is any ending."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; of none, true."""

    parts: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds; of none, false."""

    parts: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Predicate


Predicate = Is | FieldIn | DeviceIs | All | Some | Not


def both(*parts: Predicate) -> All:
    """Every one of these."""
    return All(parts)


def either(*parts: Predicate) -> Some:
    """At least one of these."""
    return Some(parts)


def among(left: Left, values: tuple[Element, ...], when: When = When.END) -> Predicate:
    """Return that a value is one of these; of none, false."""
    if not values:
        return Some()
    alone = values[0]
    right: Right = alone if len(values) == 1 and not isinstance(alone, CatchAll) else AnySet(values)
    return Is(Match(left, right), when)


def equals(left: Left, value: Scalar, when: When = When.END) -> Is:
    """Return that a value is this."""
    return Is(Match(left, value), when)


def compares(left: Left, op: Op, value: Scalar) -> Is:
    """Return that a value of the packet as it leaves stands so to this one."""
    return Is(Match(left, value, op), When.END)

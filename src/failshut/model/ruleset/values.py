"""Constants: what a value is compared with, and the elements of sets and maps.

A constant is a word where nft has a word of its own for it (`tcp`, `established`, `echo-request`, `local`), else a number; ports
are numbers. Under arithmetic (`Binary`) every constant is a number. An interface's name that ends in `*` stands for all that begin
so; a backslash before the `*` makes it an ordinary character.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failshut.model.units import Address, Prefix

if TYPE_CHECKING:
    from failshut.model.ruleset.statements import Jump
    from failshut.model.ruleset.words import Verdict


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends included, and both of one type."""

    low: int | str | Address
    high: int | str | Address


Scalar = int | str | Address | Prefix | Range


@dataclass(frozen=True, slots=True)
class Tuple:
    """One element of a concatenation."""

    parts: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class CatchAll:
    """The element `*`: whatever no other element of its set or map holds."""


Element = Scalar | Tuple | CatchAll


@dataclass(frozen=True, slots=True)
class AnySet:
    """An anonymous set: any of these. At least two elements; one alone is said as that one."""

    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class SetRef:
    """A named set or map of the same table."""

    name: str


@dataclass(frozen=True, slots=True)
class AnyMap:
    """An anonymous map: the key's value. No two elements overlap, so their order says nothing."""

    elements: tuple[tuple[Element, Scalar | Tuple | Verdict | Jump], ...]


Right = Scalar | Tuple | AnySet | SetRef

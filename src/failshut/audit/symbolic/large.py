"""Sets of very many intervals: one truth each, and the solver is told of an interval only when it tries a value near it.

Spelled out, 100,000 prefixes take a minute and gigabytes. A proof hardly ever needs them: the rules and the policy ask for the same
set, and what is in it for the one is in it for the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import z3

from failshut.audit.symbolic.formula import Bool, merged, within

# Sets of fewer intervals are spelled out at once.
MANY = 256


@dataclass(frozen=True, slots=True)
class Large:
    """Whether `value` lies in one of `intervals`, which are sorted and apart, as the truth of `held`."""

    value: z3.BitVecRef
    intervals: tuple[tuple[int, int], ...]
    held: z3.BoolRef

    def around(self, number: int) -> tuple[int, int, bool]:
        """Return the interval, or the gap between two, in which a number lies; and whether it is an interval."""
        index = bisect_right(self.intervals, (number, 1 << 128)) - 1
        if index >= 0 and number <= self.intervals[index][1]:
            return *self.intervals[index], True
        low = self.intervals[index][1] + 1 if index >= 0 else 0
        after = self.intervals[index + 1][0] - 1 if index + 1 < len(self.intervals) else (1 << self.value.size()) - 1
        return low, after, False

    def truth(self, model: z3.ModelRef) -> bool:
        """Return what `held` must be in a model."""
        return self.around(_number(model, self.value))[2]

    def objection(self, model: z3.ModelRef) -> z3.BoolRef | None:
        """Return what a model got wrong, or None: true of every packet, and enough not to get it wrong there again."""
        low, high, inside = self.around(_number(model, self.value))
        if z3.is_true(model.eval(self.held, model_completion=True)) is inside:
            return None
        return z3.Implies(_formula(within(self.value, [(low, high)])), self.held == inside)

    def spelled_out(self) -> z3.BoolRef:
        """Return all of it."""
        return self.held == _formula(within(self.value, self.intervals))

    def against(self, other: Large) -> z3.BoolRef | None:
        """Return by which values two sets differ, where these are few."""
        if self.value.get_id() != other.value.get_id():
            return None
        differing = list(_differing(self.intervals, other.intervals))
        return None if len(differing) > MANY else (self.held != other.held) == _formula(within(self.value, differing))


def large(value: z3.BitVecRef, intervals: list[tuple[int, int]]) -> Large:
    """Return the membership of a value in these intervals; of one value in one set it is always the same truth."""
    kept = tuple(merged(intervals))
    name = f"in many {value.get_id()} {sha256(repr(kept).encode()).hexdigest()}"
    return Large(value, kept, z3.Bool(name))


def _differing(one: tuple[tuple[int, int], ...], two: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """Yield the intervals that are in one and not in the other: between every other of all borders, sorted."""
    borders: dict[int, bool] = {}
    for low, high in (*one, *two):
        for border in (low, high + 1):
            borders[border] = not borders.get(border, False)
    odd = sorted(border for border, counts in borders.items() if counts)
    yield from ((low, high - 1) for low, high in zip(odd[::2], odd[1::2], strict=True))


def _number(model: z3.ModelRef, value: z3.BitVecRef) -> int:
    found = model.eval(value, model_completion=True)
    return found.as_long() if isinstance(found, z3.BitVecNumRef) else 0


def _formula(part: Bool) -> z3.BoolRef:
    return z3.BoolVal(part) if isinstance(part, bool) else part

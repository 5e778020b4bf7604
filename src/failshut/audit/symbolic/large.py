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

# Sets of fewer intervals are spelled out at once; and so is where two sets differ, when it is in fewer.
MANY, FEW = 16, 256


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

    def bounds(self) -> z3.BoolRef:
        """Return that it holds nothing beyond its first and its last value."""
        return z3.Implies(self.held, _formula(within(self.value, [self._hull()])))

    def against(self, other: Large) -> Iterator[z3.BoolRef]:
        """Yield by which values two sets differ, as far as one of them reaches, where these are few.

        A long list is often the same as another, or one part of it.
        """
        if self.value.get_id() != other.value.get_id():
            return
        for inner, outer in ((self, other), (other, self)):
            here = outer.cut(*inner._hull())  # noqa: SLF001 - another of this kind
            # They differ in at least so many.
            if not here or abs(len(inner.intervals) - len(here)) > FEW:
                continue
            differing = list(_differing(inner.intervals, here))
            if len(differing) <= FEW:
                reach = _formula(within(inner.value, [inner._hull()]))  # noqa: SLF001 - another of this kind
                yield z3.Implies(reach, (inner.held != outer.held) == _formula(within(inner.value, differing)))

    def cut(self, low: int, high: int) -> tuple[tuple[int, int], ...]:
        """Return what of the intervals lies between two values, both included."""
        first = max(bisect_right(self.intervals, (low, 0)) - 1, 0)
        last = bisect_right(self.intervals, (high, 1 << 128))
        parts = ((max(one, low), min(two, high)) for one, two in self.intervals[first:last])
        return tuple((one, two) for one, two in parts if one <= two)

    def _hull(self) -> tuple[int, int]:
        return self.intervals[0][0], self.intervals[-1][1]


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

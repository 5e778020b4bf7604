"""Sets of very many intervals: one truth each, and the solver is told of an interval only when it tries a value near it.

Spelled out, 100,000 prefixes take a minute and gigabytes. A proof hardly ever needs them: the rules and the policy ask for the same
set, and what is in it for the one is in it for the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import z3

from failshut.audit.symbolic.formula import Bool, within
from failshut.model.same import once

# Sets of fewer intervals are spelled out at once; and so is where two sets differ, when it is in fewer.
MANY, FEW = 16, 256
# So many of those that are spelled out are told against each large one: parts of a list, some long and some short.
MOST_SPELLED_OUT = 256


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
        (low, high), (lowest, highest) = self._hull(), other._hull()
        if high < lowest or highest < low:
            return
        for inner, outer in ((self, other), (other, self)):
            differing = _few_differing(inner.intervals, outer.intervals)
            if differing is not None:
                reach = _formula(within(inner.value, [inner._hull()]))  # noqa: SLF001 - another of this kind
                yield z3.Implies(reach, (inner.held != outer.held) == _formula(within(inner.value, differing)))

    def _hull(self) -> tuple[int, int]:
        return self.intervals[0][0], self.intervals[-1][1]


def large(value: z3.BitVecRef, intervals: tuple[tuple[int, int], ...]) -> Large:
    """Return the membership of a value in these sorted intervals; of one value in one set it is always the same truth."""
    return Large(value, intervals, z3.Bool(f"in many {value.get_id()} {_digest(intervals)}"))


@once
def _digest(intervals: tuple[tuple[int, int], ...]) -> str:
    return sha256(repr(intervals).encode()).hexdigest()


@once
def _few_differing(inner: tuple[tuple[int, int], ...], outer: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...] | None:
    """Return what is in one and not in the other from the inner's first value to its last; None when it is in many intervals."""
    low, high = inner[0][0], inner[-1][1]
    first = max(bisect_right(outer, (low, 0)) - 1, 0)
    last = bisect_right(outer, (high, 1 << 128))
    # They differ in at least so many; one more may reach in from each side.
    if abs(len(inner) - (last - first)) > FEW + 2:
        return None
    here = [(max(one, low), min(two, high)) for one, two in outer[first:last] if one <= high and two >= low]
    if not here:
        return None
    differing = tuple(_differing(inner, here))
    return differing if len(differing) <= FEW else None


def _differing(one: Iterable[tuple[int, int]], two: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
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

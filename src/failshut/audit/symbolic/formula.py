"""Booleans and numbers that are plain Python as long as they are constant: most of a ruleset folds away before z3 sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import z3

Bool: TypeAlias = bool | z3.BoolRef
Number: TypeAlias = int | z3.BitVecRef


def conj(parts: Iterable[Bool]) -> Bool:
    """Return that all hold."""
    rest: list[z3.BoolRef] = []
    for each in parts:
        if isinstance(each, bool):
            if not each:
                return False
        else:
            rest.append(each)
    if len(rest) < 2:
        return rest[0] if rest else True
    return z3.And(rest)


def disj(parts: Iterable[Bool]) -> Bool:
    """Return that one holds."""
    rest: list[z3.BoolRef] = []
    for each in parts:
        if isinstance(each, bool):
            if each:
                return True
        else:
            rest.append(each)
    if len(rest) < 2:
        return rest[0] if rest else False
    return z3.Or(rest)


def neg(part: Bool) -> Bool:
    """Return that it does not hold."""
    return not part if isinstance(part, bool) else z3.Not(part)


def as_bits(value: Number, width: int) -> z3.BitVecRef:
    """Return a number as a bit-vector of this width, cut or filled with zeros."""
    if isinstance(value, int):
        return z3.BitVecVal(value, width)
    if value.size() == width:
        return value
    return z3.Extract(width - 1, 0, value) if value.size() > width else z3.ZeroExt(width - value.size(), value)


def same(one: Number, two: Number) -> Bool:
    """Return that two numbers are equal."""
    if isinstance(one, int) and isinstance(two, int):
        return one == two
    width = max(each.size() for each in (one, two) if not isinstance(each, int))
    return as_bits(one, width) == as_bits(two, width)


def choose(condition: Bool, one: Number, two: Number, width: int) -> Number:
    """Return one number or the other."""
    if isinstance(condition, bool):
        return one if condition else two
    if isinstance(one, int) and isinstance(two, int) and one == two:
        return one
    if one is two:
        return one
    return z3.If(condition, as_bits(one, width), as_bits(two, width))


def merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same numbers in as few intervals as possible, in order."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(intervals):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return out


def within(value: Number, intervals: Iterable[tuple[int, int]]) -> Bool:
    """Return that a number lies in one of these closed intervals."""
    if isinstance(value, int):
        return any(low <= value <= high for low, high in intervals)
    return disj([_between(value, low, high) for low, high in merged(intervals)])


def _between(value: z3.BitVecRef, low: int, high: int) -> Bool:
    width = value.size()
    top = (1 << width) - 1
    if low > top or high < low:
        return False
    high = min(high, top)
    if low == high:
        return value == low
    if (low, high) == (0, top):
        return True
    free = (high - low + 1).bit_length() - 1
    if high - low + 1 == 1 << free and low % (1 << free) == 0:
        # A whole prefix is one comparison of its leading bits, not two of order.
        return z3.Extract(width - 1, free, value) == (low >> free)
    bounds = []
    if low:
        bounds.append(z3.UGE(value, low))
    if high != top:
        bounds.append(z3.ULE(value, high))
    return conj(bounds)

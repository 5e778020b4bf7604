"""Booleans and numbers that are plain Python as long as they are constant: most of a ruleset folds away before z3 sees it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

import z3

Bool: TypeAlias = bool | z3.BoolRef
Number: TypeAlias = int | z3.BitVecRef

# What is built here has the right sorts: z3's own functions, which look at each argument again, take three times as long.
_CONTEXT = z3.main_ctx()
_REF = _CONTEXT.ref()


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
    return z3.BoolRef(z3.Z3_mk_and(_REF, len(rest), _array(rest)), _CONTEXT)


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
    return z3.BoolRef(z3.Z3_mk_or(_REF, len(rest), _array(rest)), _CONTEXT)


def neg(part: Bool) -> Bool:
    """Return that it does not hold."""
    return not part if isinstance(part, bool) else z3.BoolRef(z3.Z3_mk_not(_REF, part.ast), _CONTEXT)


def _array(parts: list[z3.BoolRef]) -> object:
    return (z3.Ast * len(parts))(*[each.ast for each in parts])


@lru_cache(1 << 16)
def _constant(value: int, width: int) -> z3.BitVecRef:
    return z3.BitVecVal(value, width)


def _width(value: z3.BitVecRef) -> int:
    return int(z3.Z3_get_bv_sort_size(_REF, z3.Z3_get_sort(_REF, value.ast)))


def _equal(one: z3.BitVecRef, two: z3.BitVecRef) -> z3.BoolRef:
    return z3.BoolRef(z3.Z3_mk_eq(_REF, one.ast, two.ast), _CONTEXT)


def _extract(high: int, low: int, value: z3.BitVecRef) -> z3.BitVecRef:
    return z3.BitVecRef(z3.Z3_mk_extract(_REF, high, low, value.ast), _CONTEXT)


def as_bits(value: Number, width: int) -> z3.BitVecRef:
    """Return a number as a bit-vector of this width, cut or filled with zeros."""
    if isinstance(value, int):
        return _constant(value, width)
    had = _width(value)
    if had == width:
        return value
    if had > width:
        return _extract(width - 1, 0, value)
    return z3.BitVecRef(z3.Z3_mk_zero_ext(_REF, width - had, value.ast), _CONTEXT)


def same(one: Number, two: Number) -> Bool:
    """Return that two numbers are equal."""
    if isinstance(one, int) and isinstance(two, int):
        return one == two
    width = max(_width(each) for each in (one, two) if not isinstance(each, int))
    return _equal(as_bits(one, width), as_bits(two, width))


def choose(condition: Bool, one: Number, two: Number, width: int) -> Number:
    """Return one number or the other."""
    if isinstance(condition, bool):
        return one if condition else two
    if isinstance(one, int) and isinstance(two, int) and one == two:
        return one
    if one is two:
        return one
    chosen = z3.Z3_mk_ite(_REF, condition.ast, as_bits(one, width).ast, as_bits(two, width).ast)
    return z3.BitVecRef(chosen, _CONTEXT)


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
    width = _width(value)
    top = (1 << width) - 1
    if low > top or high < low:
        return False
    high = min(high, top)
    if low == high:
        return _equal(value, _constant(low, width))
    if (low, high) == (0, top):
        return True
    free = (high - low + 1).bit_length() - 1
    if high - low + 1 == 1 << free and low % (1 << free) == 0:
        # A whole prefix is one comparison of its leading bits, not two of order.
        return _equal(_extract(width - 1, free, value), _constant(low >> free, width - free))
    bounds = []
    if low:
        bounds.append(z3.BoolRef(z3.Z3_mk_bvuge(_REF, value.ast, _constant(low, width).ast), _CONTEXT))
    if high != top:
        bounds.append(z3.BoolRef(z3.Z3_mk_bvule(_REF, value.ast, _constant(high, width).ast), _CONTEXT))
    return conj(bounds)

"""What the solver is told of two large sets is true of every value: a proof that rests on it is one."""

from __future__ import annotations

import z3
from hypothesis import given
from hypothesis import strategies as st

from failshut.audit.symbolic.formula import merged
from failshut.audit.symbolic.large import Large, large
from failshut.audit.symbolic.space import Space

_INTERVALS = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 9)), min_size=1, max_size=40).map(
    lambda found: tuple(merged((low, min(low + more, 255)) for low, more in found))
)


@given(_INTERVALS, _INTERVALS)
def test_how_two_sets_differ_is_told_truly(one, two):
    value = z3.BitVec("value", 8)
    first, second = large(value, one), large(value, two)
    _must_be_true([*first.against(second), *second.against(first), first.bounds()], first, second)


@given(_INTERVALS, st.lists(_INTERVALS, min_size=1, max_size=3), st.booleans())
def test_what_is_told_of_short_sets_beside_a_long_one_is_true(long, short, long_first):
    space, value = Space(4, ("", "eth0")), z3.BitVec("value", 8)
    many = large(value, long)
    if long_first:
        space.know((many,))
    for each in short:
        space.in_few(value, each)
    space.know((many,))
    assert space.limits
    _must_be_true(space.limits, many)


def _must_be_true(told: list[z3.BoolRef], *sets: Large) -> None:
    solver = z3.Solver()
    solver.add(*(each.spelled_out() for each in sets), z3.Not(z3.And(told)) if told else z3.BoolVal(False))
    assert solver.check() == z3.unsat

"""Our own lock: every property is proved for every golden policy, whatever other tables stand beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from amount import amount, thorough
from audit_golden import case_ruleset, case_world
from audit_random import tables
from failshut.audit.answer.result import Answer
from failshut.audit.prove import Auditor, audit
from failshut.audit.question.properties import PROPERTIES, Sense
from failshut.model.ruleset import Chain, Ruleset, Table
from golden_cases import CASES

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# With those there is every question; the others' worlds have other addresses in them.
USUAL = {"guide", "split_tunnel", "two_sites", "double_hop", "tailscale", "kernel_without_egress", "forward_into_the_tunnel"}
SOME = [pytest.param(each, marks=() if each.name in USUAL else thorough) for each in CASES]
# A kernel without the egress hook: the one lock that can't hold below IP, and says so.
WITHOUT_EGRESS = {"kernel_without_egress"}


@by_name
def test_every_property_of_a_golden_lock_is_proved(case):
    """No packet leaves that the policy does not allow, and what must work does."""
    results = audit(case_ruleset(case), case_world(case))
    wrong = [(each.question.name, each.family, each.answer) for each in results if each.answer not in (Answer.PROVED, Answer.WORKS)]

    if case.name in WITHOUT_EGRESS:
        assert {name for name, _, _ in wrong} == {"below-ip"}
    else:
        assert wrong == []
        assert not [made for each in results for made in each.approximations]


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_without_the_lock_every_leak_is_found(case):
    """The control: the same questions to a machine without rules find a packet each."""
    results = audit(Ruleset(), case_world(case))
    proved = {each.question.name for each in results if each.answer is Answer.PROVED and each.question.sense is not Sense.NEED}

    assert proved <= {"below-ip", "endpoint-port", "endpoint-program"}


def one_after_the_other(drawn: tuple[Table, ...]) -> tuple[Table, ...]:
    """No two tables at one priority: all orders of ten chains would be asked, which is another test's subject."""
    return tuple(
        replace(table, name=f"foreign{number}", chains=tuple(_later(chain, number) for chain in table.chains))
        for number, table in enumerate(drawn)
    )


def _later(chain: Chain, by: int) -> Chain:
    return replace(chain, base=replace(chain.base, priority=chain.base.priority + by)) if chain.base else chain


foreign_tables = st.tuples(*(tables(f"foreign{number}", odd=False) for number in range(5))).map(one_after_the_other)


@pytest.mark.parametrize("name", ["guide", "kernel_wireguard"])
@settings(
    max_examples=amount(usually=8, thoroughly=25),
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(foreign=foreign_tables)
def test_five_random_foreign_tables_cannot_open_the_lock(name, foreign):
    """Others may mark, translate, re-route and accept as they like: what leaves is what the policy allows."""
    case = next(each for each in CASES if each.name == name)
    auditor = Auditor(Ruleset((*foreign, *case_ruleset(case, alone=False).tables)), case_world(case, alone=False))
    wrong = []
    for question in PROPERTIES:
        for family in question.families if question.sense is not Sense.NEED else ():
            result = auditor.ask(question, family)
            if result is not None and result.answer is not Answer.PROVED:
                wrong.append((question.name, family, [(each.packet, each.fate.end) for each in result.witnesses][:1]))

    assert wrong == []

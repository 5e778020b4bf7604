"""Our own lock with one mistake: what it then lets out and the policy does not allow, the audit notices."""

from __future__ import annotations

from amount import amount
from audit_golden import case_ruleset, case_world
from audit_mutants import is_noticed, mutants
from failshut.audit.answer.result import Answer
from failshut.audit.difference import opened_beyond
from failshut.audit.prove import Auditor
from failshut.audit.question.properties import PROPERTIES
from golden_cases import CASES

# It leaks only with answers of the routing table that contradict each other: docs/reference/audit.md, "Mistakes in our own lock".
UNNOTICED = ('inet output: delete `meta mark 0x10000001 accept comment "choke-point-decides"`',)


def test_a_lock_with_one_rule_wrong_is_noticed_when_it_leaks():
    """Every twelfth mutant of one lock (all of them: benchmarks/audit_mutants.py): those that open it are noticed, and some do."""
    case = next(each for each in CASES if each.name == "minimal")
    lock, world = case_ruleset(case), case_world(case)
    sample = [each for each in list(mutants(lock))[:: amount(usually=24, thoroughly=6)] if each[0] not in UNNOTICED]
    opening = [(what, mutant) for what, mutant in sample if opened_beyond(lock, mutant, world)]

    assert [what for what, mutant in opening if not is_noticed(mutant, world)] == []
    assert len(opening) >= 2


def test_what_enters_a_tunnel_that_carries_another_is_asked_for():
    """A double hop's every condition counts: without the mark, the address or the sender, a packet enters the outer tunnel."""
    case = next(each for each in CASES if each.name == "double_hop")
    world = case_world(case)
    # That the device is the outer tunnel is asked for once more where the chain is called.
    widened = [
        mutant
        for what, mutant in mutants(case_ruleset(case))
        if what.startswith("inet transit: widen") and not what.endswith("condition 2")
    ]
    leaking = [any(_transit(mutant, world, family) is Answer.LEAK for family in (4, 6)) for mutant in widened]

    assert _transit(case_ruleset(case), world, 4) is _transit(case_ruleset(case), world, 6) is Answer.PROVED
    assert len(leaking) >= 8
    assert all(leaking)


def _transit(ruleset, world, family: int) -> Answer:
    question = next(each for each in PROPERTIES if each.name == "transit")
    return Auditor(ruleset, world).ask(question, family).answer

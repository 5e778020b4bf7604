"""Our own lock with one mistake: what it then lets out and the policy does not allow, the audit notices."""

from __future__ import annotations

from audit_golden import case_ruleset, case_world
from audit_mutants import is_noticed, mutants
from failshut.audit.difference import opened_beyond
from golden_cases import CASES


def test_a_lock_with_one_rule_wrong_is_noticed_when_it_leaks():
    """Every sixth mutant of one lock (all of them: benchmarks/audit_mutants.py): those that open it are noticed, and some do."""
    case = next(each for each in CASES if each.name == "minimal")
    lock, world = case_ruleset(case), case_world(case)
    sample = list(mutants(lock))[::6]
    opening = [(what, mutant) for what, mutant in sample if opened_beyond(lock, mutant, world)]

    assert [what for what, mutant in opening if not is_noticed(mutant, world)] == []
    assert len(opening) >= 3

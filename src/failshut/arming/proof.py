"""The audit of what is about to be loaded: its text, read back, never the compiler's word for it."""

from __future__ import annotations

import time
from dataclasses import replace

from failshut.arming.backends import backend
from failshut.arming.errors import LeakError, UndecidedError
from failshut.audit.prover import why_not
from failshut.lower.egress import LATER
from failshut.model.plan import Plan
from failshut.model.policy import Policy
from failshut.model.progress import Report
from failshut.model.ruleset import Ruleset

# In seconds; who waits longer is told how far it is.
_PATIENCE = 2.0
_REMEDY = "nothing was changed; please report this with the policy"
_UNDECIDED = "nothing was changed; --i-know arms it all the same"


def must_be_proved(policy: Policy, plan: Plan, report: Report, *, undecided_is_fine: bool = False) -> bool:
    """Prove that neither the transaction nor the files for the boot leak; return whether that was decided.

    Raises `LeakError` with a packet that would leave; `UndecidedError` where it can't be decided, unless that is fine.
    """
    if reason := why_not():
        return _undecided((f"the prover can't be loaded: {reason}",), report, is_fine=undecided_is_fine)
    loaded, booted = backend(plan.backend).read(plan)
    decided = _judge(loaded, policy, plan, report, undecided_is_fine=undecided_is_fine)
    # One proof does for both where they say the same.
    if not _say_the_same(loaded, booted):
        decided &= _judge(booted, policy, plan, report, undecided_is_fine=undecided_is_fine)
    return decided


def _say_the_same(loaded: Ruleset, booted: Ruleset) -> bool:
    """Whether the boot's rules are the transaction's, with those of one device once more for a device that nobody knows yet."""
    known = []
    for table in booted.tables:
        later = [each for each in table.chains if each.base and each.base.device == LATER]
        chains = tuple(each for each in table.chains if each not in later)
        hung = [(each.rules, replace(each.base, device="")) for each in chains if each.base]
        if any((each.rules, replace(each.base, device="")) not in hung for each in later if each.base):
            return False
        known.append(replace(table, chains=chains))
    return Ruleset(tuple(known)).canonical() == loaded.canonical()


def _judge(ruleset: Ruleset, policy: Policy, plan: Plan, report: Report, *, undecided_is_fine: bool) -> bool:
    # Imported here: the prover is for arming alone, and takes longer to load than all else.
    from failshut.audit.answer.result import Answer  # noqa: PLC0415
    from failshut.audit.lock import in_words, objections  # noqa: PLC0415
    from failshut.audit.netfilter.words import NotUnderstoodError  # noqa: PLC0415

    try:
        found = objections(ruleset, policy, plan.facts, under_ip=plan.under_ip, progress=_Waiting(report))
        lines = in_words(found)
    except NotUnderstoodError as error:
        found, lines = (), (str(error),)
    if not lines:
        return True
    if leaks := tuple(each for each in found if each.answer is Answer.LEAK):
        raise LeakError(f"this lock would leak:{_shown(in_words(leaks))}", help=_REMEDY)
    return _undecided(lines, report, is_fine=undecided_is_fine)


def _undecided(lines: tuple[str, ...], report: Report, *, is_fine: bool) -> bool:
    if not is_fine:
        raise UndecidedError(f"whether this lock leaks can't be decided:{_shown(lines)}", help=_UNDECIDED)
    report(f"whether this lock leaks can't be decided, and you know:{_shown(lines)}")
    return False


def _shown(lines: tuple[str, ...]) -> str:
    return "".join(f"\n  {line}" for line in lines)


class _Waiting:
    """Says how far the proof is, once it takes long."""

    def __init__(self, report: Report) -> None:
        self.report, self.began = report, time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        if name and time.monotonic() - self.began > _PATIENCE:
            self.report(f"proving that nothing leaks: {done} of {total} questions")

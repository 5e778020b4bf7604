"""What became of a witness that was sent, and what the audit's answer is then. Pure; the sending is `drill.replay`'s.

A packet that was seen decides: also what was only possible is a leak then. A leak whose every packet was sent and did not leave
is withdrawn, and proves nothing: the audit can't say that no other packet does. What depended on something that is not understood
stays possible: the packet that was sent may have lacked just that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from failshut.audit.answer.result import Answer, Outcome, Replay, Result, Witness
from failshut.audit.question.properties import Sense
from failshut.model.ruleset import Match, Meta, Statement, UnknownMatch


def to_replay(results: Sequence[Result]) -> Iterator[Witness]:
    """Yield every packet that leaves and might not, in the results' order: leaks, what is possible, notes."""
    for result in results:
        if result.question.sense is not Sense.NEED:
            yield from result.witnesses


def judged(results: Sequence[Result], replays: Sequence[Replay]) -> tuple[Result, ...]:
    """Return the results with what became of their packets; `replays` are in the order of `to_replay`."""
    waiting = iter(replays)
    return tuple(each if each.question.sense is Sense.NEED else _judge(each, waiting) for each in results)


def _believed(witness: Witness, replay: Replay) -> Replay:
    """Return what became of a packet: that it does not leave now says nothing where rules ask for the hour or the day."""
    if replay.outcome is Outcome.REFUTED and any(map(_asks_the_clock, _statements(witness))):
        return replace(replay, outcome=Outcome.NOT_REPLAYED, happened=f"it depends on the hour or the day: {replay.happened}")
    return replay


def _statements(witness: Witness) -> Iterator[Statement]:
    """Yield what stands in the tables that the packet went through."""
    for table in {id(each.stop.table): each.stop.table for each in witness.fate.steps}.values():
        yield from table.statements()


def _asks_the_clock(statement: Statement) -> bool:
    match statement:
        case UnknownMatch(text):
            return text.startswith("-m time ")
        case Match(left):
            return left in (Meta("hour"), Meta("day"), Meta("time"))
        case _:
            return False


def _judge(result: Result, waiting: Iterator[Replay]) -> Result:
    witnesses = tuple(replace(each, replay=_believed(each, next(waiting))) for each in result.witnesses)
    if not witnesses:
        return result
    outcomes = {each.replay.outcome for each in witnesses if each.replay}
    answer = result.answer
    if Outcome.CONFIRMED in outcomes:
        answer = Answer.LEAK
    elif outcomes == {Outcome.REFUTED} and all(each.certain for each in witnesses):
        answer = Answer.REFUTED
    elif not any(each.certain for each in witnesses if each.replay and each.replay.outcome is not Outcome.REFUTED):
        answer = Answer.POSSIBLE
    return replace(result, witnesses=witnesses, answer=answer)

"""The sums of a drill: what was sent against the lock, and what of it leaked; the known limits counted apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from failshut.drill.judgement.outcome import Outcome, Status
from failshut.drill.scenario import Kind


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets over every attack that was judged, and scenarios by their word.

    `without` and `beside` leaked in the same attacks with no lock, and under the other rules; None where no run of that kind proves
    anything.
    """

    words: dict[str, int]
    sent: int
    leaked: int
    without: int | None
    beside: int | None
    limits: int
    beyond: int


def tally(outcomes: Sequence[Outcome]) -> Tally:
    """Return the sums. What the lock is known not to hold is in `limits` (scenarios) and `beyond` (packets) alone.

    A leak in what must still work is a leak like any other.
    """
    judged = [each for each in outcomes if each.scenario.kind is Kind.ATTACK and each.status in (Status.HELD, Status.LEAKED)]
    limits = [each for each in outcomes if each.status is Status.LIMIT]
    controls = [each.control.leaked for each in judged if each.control]
    others = [each.beside.leaked for each in judged if each.beside and not each.beside.reason]
    return Tally(
        words=dict(Counter(each.word for each in outcomes)),
        sent=sum(each.lock.sent for each in judged),
        leaked=sum(each.lock.leaked for each in outcomes if each.status is not Status.LIMIT),
        without=sum(controls) if controls else None,
        beside=sum(others) if others else None,
        limits=len(limits),
        beyond=sum(each.lock.leaked for each in limits),
    )

"""What an audit answers: each question with the packets that pass, and what became of those that were sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from failshut.audit.approximation import Approximation
from failshut.audit.concrete.fate import Fate, Step
from failshut.audit.netfilter.route import Way
from failshut.audit.question.properties import Property, Sense


class Answer(StrEnum):
    """`PROVED`: no such packet. `LEAK`: there is one. `POSSIBLE`: it depends. `WORKS` and `BROKEN` answer for what is needed.

    `REFUTED`: a packet was found, and when it was sent it did not leave.
    """

    PROVED = "proved"
    LEAK = "leak"
    POSSIBLE = "possible"
    REFUTED = "refuted"
    WORKS = "works"
    BROKEN = "broken"


class Outcome(StrEnum):
    """What became of a witness that was to be sent in a lab."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_REPLAYED = "not replayed"


@dataclass(frozen=True, slots=True)
class Replay:
    """A witness, sent: the first packet that was captured, how many were, and what happened in words."""

    outcome: Outcome
    captured: str = ""
    packets: int = 0
    happened: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A packet that passes: its fields, what became of it, and the rule that let it (None: a policy, or no chain at all)."""

    way: Way
    family: int
    packet: dict[str, int | str]
    fate: Fate
    culprit: Step | None
    certain: bool
    depends: tuple[Approximation, ...] = ()
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One question for one address family. `approximations` are all that were made on the way, whether or not they mattered."""

    question: Property
    family: int
    answer: Answer
    witnesses: tuple[Witness, ...] = ()
    approximations: tuple[Approximation, ...] = ()

    @property
    def is_leak(self) -> bool:
        """Whether this is a packet that leaves and must not."""
        return self.answer is Answer.LEAK and self.question.sense is Sense.LEAK

    @property
    def is_doubt(self) -> bool:
        """Whether a leak could be neither shown nor excluded."""
        return self.answer in (Answer.POSSIBLE, Answer.REFUTED) and self.question.sense is Sense.LEAK

"""What a verification found: one result a test, and the exit code that sums them up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from failshut.model.exits import Exit


class Verdict(StrEnum):
    """What a test showed. `void` says that it proves nothing, which is never "ok"."""

    OK = "ok"
    LEAK = "leak"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Tried:
    """How often one probe was sent: `sent` times the kernel took it, `refused` times it said no on the spot.

    `impossible` is the kernel's word when it could not even be tried.
    """

    name: str
    sent: int = 0
    refused: int = 0
    impossible: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: how many packets each allowance explains, and the first leaked ones, a line each.

    `seconds` is how long it took, `leaked` the number of all leaked packets.
    """

    name: str
    title: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    allowed: dict[str, int] = field(default_factory=dict)
    leaked: int = 0
    leaks: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The whole verification. `unrestored` are the tunnels that did not come back, each with what was said."""

    outcomes: tuple[Outcome, ...]
    drift: bool = False
    unrestored: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict:
        """The sum: a leak outweighs a void."""
        return worst(each.verdict for each in self.outcomes)

    @property
    def exit(self) -> Exit:
        """What to answer to the shell."""
        if self.verdict is Verdict.LEAK:
            return Exit.LEAK
        if self.unrestored or self.verdict is Verdict.VOID:
            return Exit.FAILED
        return Exit.DRIFT if self.drift else Exit.OK


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return leak before void before ok; of nothing at all: void."""
    found = set(verdicts)
    return next((each for each in (Verdict.LEAK, Verdict.VOID, Verdict.OK) if each in found), Verdict.VOID)

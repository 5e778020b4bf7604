"""What a run of a scenario gives, and the verdict over its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from failshut.drill.rules.source import RuleSource
from failshut.drill.scenario import Kind, Scenario
from failshut.drill.timeline import Timeline


class Status(StrEnum):
    """How a run, or a scenario as a whole, ended."""

    HELD = "held"
    LEAKED = "leaked"
    BROKEN = "broken"
    VOID = "void"
    LIMIT = "known limit"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether the drill as a whole fails by it. What could not be judged is no pass."""
        return self in (Status.LEAKED, Status.BROKEN, Status.VOID)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run gave. `leaks` are lines, the first few; `leaked` counts them all. `probes` counts leaks by named probe."""

    scenario: str
    source: RuleSource
    reason: str = ""
    skipped: bool = False
    sent: int = 0
    frames: int = 0
    allowed: Mapping[str, int] = field(default_factory=dict)
    leaked: int = 0
    leaks: tuple[str, ...] = ()
    probes: Mapping[str, int] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    works: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario's verdict and the runs it rests on. `beside` is the same attack under other rules; no verdict rests on it."""

    scenario: Scenario
    status: Status
    reason: str
    lock: RunResult
    control: RunResult | None = None
    beside: RunResult | None = None

    @property
    def word(self) -> str:
        """The word for it: what should work is not "held", it works."""
        works = self.scenario.kind is Kind.WORKS and self.status is Status.HELD
        return "works" if works else str(self.status)


def conclude(scenario: Scenario, lock: RunResult, control: RunResult | None, beside: RunResult | None = None) -> Outcome:
    """Return the verdict. The lock's leak outweighs everything; what is not proven is void."""
    status, reason = _verdict(scenario, lock, control)
    return Outcome(scenario, status, reason, lock, control, beside)


def _verdict(scenario: Scenario, lock: RunResult, control: RunResult | None) -> tuple[Status, str]:
    if lock.leaked:
        return (
            (Status.LIMIT, scenario.limit) if scenario.limit else (Status.LEAKED, f"{lock.leaked} packets left with no allowance")
        )
    if lock.reason:
        return (Status.SKIPPED if lock.skipped else Status.VOID), lock.reason
    broken = [name for name, worked in lock.works.items() if not worked]
    if broken:
        return Status.BROKEN, "does not work with the lock on: " + ", ".join(broken)
    if control is not None and (weakness := _weakness(lock, control)):
        return Status.VOID, weakness
    return Status.HELD, ""


def _weakness(lock: RunResult, control: RunResult) -> str:
    """Return why the control does not prove that the run could have seen a leak; empty when it does."""
    if control.reason:
        return f"without the lock: {control.reason}"
    unseen = [name for name, count in control.probes.items() if not count]
    if unseen:
        return "without the lock, not seen to leak: " + ", ".join(unseen)
    if lock.probes.keys() != control.probes.keys():
        return "the lock's run and its control did not try the same probes"
    return "" if control.leaked else "without the lock nothing was seen to leak"

"""What was seen on the machine's only cable, cut into the phases of a test and judged by the policy."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from boot import noise
from failshut.drill.judgement.judge import Case, judge
from failshut.drill.network.capture import Capture
from failshut.drill.network.netns import Namespace
from failshut.model.packet import Captured, Packet

_log = logging.getLogger(__name__)
DEVICE = "host0"
MOST_SHOWN = 5
BETWEEN = "between phases"
_KINDS = {target: kind for kind, target in noise.TARGETS.items()}


@dataclass(frozen=True, slots=True)
class Phase:
    """A named stretch of the capture, in its seconds."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on everything that left: the leaks with their phases, and how much each allowance explains."""

    leaks: tuple[tuple[str, Captured], ...]
    allowed: dict[str, int] = field(default_factory=dict)

    @property
    def by_phase(self) -> dict[str, Counter[str]]:
        """How many packets of each kind leaked, by phase; a phase without leaks is not there."""
        table: dict[str, Counter[str]] = {}
        for phase, leak in self.leaks:
            table.setdefault(phase, Counter())[kind_of(leak.packet)] += 1
        return table

    @property
    def frames(self) -> int:
        """How many frames were judged."""
        return len(self.leaks) + sum(self.allowed.values())

    @property
    def by_kind(self) -> Counter[str]:
        """How many packets of each kind leaked."""
        return Counter(kind_of(leak.packet) for _, leak in self.leaks)

    def __str__(self) -> str:
        """Return the leaks by phase, then the first of each phase in full."""
        first = {phase: [leak for at, leak in self.leaks if at == phase][:MOST_SHOWN] for phase in self.by_phase}
        return "\n".join([self.table, *(f"  {phase}: {leak}" for phase, leaks in first.items() for leak in leaks)])

    @property
    def table(self) -> str:
        """The leaks counted, a line for each phase, and what was allowed."""
        lines = [f"{phase}: {_counts(counter)}" for phase, counter in self.by_phase.items()]
        return "\n".join([*lines, f"allowed: {_counts(Counter(self.allowed))}"])


class Wire:
    """A capture that begins before the machine does and ends after it."""

    def __init__(self, router: Namespace) -> None:
        self._router = router
        self._capture = Capture(router, (), most_kept=1_000_000)
        self._phases: list[Phase] = []

    def start(self) -> None:
        """Begin to listen."""
        self._capture.start()

    def plug(self, end: str) -> None:
        """Listen at one more end of a cable; nothing has been sent on it yet."""
        self._capture.add(self._router, end, DEVICE)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Give what is seen during the block a name."""
        began = self._capture.elapsed
        try:
            yield
        finally:
            self._phases.append(Phase(name, began, self._capture.elapsed))

    @property
    def elapsed(self) -> float:
        """Seconds since the capture began."""
        return self._capture.elapsed

    def saw(self, kind: str, since: float) -> bool:
        """Whether this kind of the noise has left since a second of the capture."""
        return any(each.at >= since for each in self._capture.holding(ip_address(noise.TARGETS[kind]).packed))

    def stop(self, case: Case) -> Report:
        """End the capture and judge it."""
        frames = self._capture.stop()
        if self._capture.dropped or self._capture.uncounted:
            raise RuntimeError(f"the capture lost {self._capture.dropped + self._capture.uncounted} frames: the run is void")
        judgement = judge(frames, case)
        report = Report(tuple((self._phase_of(each), each) for each in judgement.leaks), judgement.allowed)
        # For who wants the numbers: `pytest --log-cli-level=INFO`.
        _log.info("leaks by phase\n%s", report.table)
        return report

    def _phase_of(self, frame: Captured) -> str:
        return next((each.name for each in self._phases if each.began <= frame.at <= each.ended), BETWEEN)


def kind_of(packet: Packet) -> str:
    """Return which kind of the noise a packet is, or what it looks like."""
    return _KINDS.get(str(packet.target)) or f"other: {packet}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counter.most_common()) or "none"

"""What a run saw, for docs/reference/machines.md: a table for each kernel, written by the run itself (`--machines FILE`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "machine"


@dataclass(slots=True)
class Chapter:
    """Part of a machine's life: frames that left with the lock, those of them that leaked, and what leaked without it."""

    name: str
    frames: int | None = None
    leaked: int | None = None
    control: str = ""
    note: str = ""

    @property
    def row(self) -> str:
        """The line of the table."""
        seen = (
            "not seen"
            if self.frames is None
            else f"**{self.leaked}** of {self.frames:,}"
            if self.leaked
            else f"0 of {self.frames:,}"
        )
        return f"| {self.name} | {seen}{self.note and f'; {self.note}'} | {self.control or 'not seen'} |"


@dataclass(slots=True)
class Measured:
    """Everything that one machine's test saw."""

    suite: str
    kernel: str = ""
    chapters: dict[str, Chapter] = field(default_factory=dict)

    def chapter(self, name: str) -> Chapter:
        """The chapter of that name, new if need be."""
        return self.chapters.setdefault(name, Chapter(name))


class MachinesReport:
    """A pytest plugin: puts the tables of this run in their places in the page, and leaves those of other kernels alone."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._blocks: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a machine's test saw, whether it passed or not."""
        if report.when != "teardown":
            return
        for name, seen in report.user_properties:
            if name == PROPERTY:
                self._blocks[seen["suite"]] = _table(seen)

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        page = self._target.read_text(encoding="utf-8")
        for suite, table in self._blocks.items():
            begin, end = f"<!-- {suite} -->\n", f"<!-- end of {suite} -->\n"
            before, rest = page.split(begin)
            page = f"{before}{begin}{table}{end}{rest.split(end)[1]}"
        self._target.write_text(page, encoding="utf-8")


def _table(seen: dict[str, Any]) -> str:
    rows = [Chapter(**each).row for each in seen["chapters"]]
    head = (
        f"| Linux {seen['kernel']} ({seen['suite']}) | leaked with the lock, of all frames | leaked without it |\n|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def as_property(measured: Measured) -> dict[str, Any]:
    """What can go from a worker to whoever writes the page."""
    chapters = [asdict(each) for each in measured.chapters.values()]
    return {"suite": measured.suite, "kernel": measured.kernel, "chapters": chapters}

"""What a run saw, for docs/reference/machines.md: a table for each kernel, written by the run itself (`--machines FILE`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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


def write(page: Path, measured: Measured) -> None:
    """Put a kernel's table in its place in the page, and leave those of other kernels alone."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {measured.suite} -->\n", f"<!-- end of {measured.suite} -->\n"
    before, rest = text.split(begin)
    page.write_text(before + begin + _table(measured) + end + rest.split(end)[1], encoding="utf-8")


def _table(measured: Measured) -> str:
    rows = [each.row for each in measured.chapters.values()]
    head = f"| Linux {measured.kernel} ({measured.suite}) | leaked with the lock, of all frames | leaked without it |"
    return "\n".join([head, "|---|---|---|", *rows, ""])

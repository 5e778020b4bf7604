"""What a run saw, for docs/reference/machines.md: a table for each kernel, written by the run itself (`--machines FILE`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

NOT_SEEN = "not seen"


@dataclass(slots=True)
class Chapter:
    """Part of a machine's life, in words: what left with the lock, and what leaked without it."""

    locked: str = ""
    control: str = ""

    def note_lock(self, frames: int, leaked: int, note: str = "") -> None:
        """Of all the frames that left, how many leaked."""
        number = f"**{leaked:,}**" if leaked else "0"
        self.locked = f"{number} of {frames:,}" + (f": {note}" if note else "")


@dataclass(slots=True)
class Measured:
    """Everything that one machine's test saw, by the chapters' names."""

    suite: str
    kernel: str = ""
    chapters: dict[str, Chapter] = field(default_factory=dict)

    def chapter(self, name: str) -> Chapter:
        """The chapter of that name, new if need be."""
        return self.chapters.setdefault(name, Chapter())


def write(page: Path, measured: Measured) -> None:
    """Put what was seen into the kernel's table; what another test saw of the same kernel stays, and every other kernel's table."""
    begin, end = f"<!-- {measured.suite} -->\n", f"<!-- end of {measured.suite} -->\n"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    table, after = rest.split(end)
    page.write_text(before + begin + _table(measured, table) + end + after, encoding="utf-8")


def _table(measured: Measured, old: str) -> str:
    head = f"| Linux {measured.kernel} ({measured.suite}) | leaked with the lock, of all frames | leaked without it |"
    chapters = _read(old) if old.startswith(head) else {}
    for name, seen in measured.chapters.items():
        known = chapters.get(name, Chapter())
        chapters[name] = Chapter(seen.locked or known.locked, seen.control or known.control)
    rows = (f"| {name} | {each.locked or NOT_SEEN} | {each.control or NOT_SEEN} |" for name, each in chapters.items())
    return "\n".join([head, "|---|---|---|", *rows, ""])


def _read(table: str) -> dict[str, Chapter]:
    rows = (line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    return {name: Chapter(*("" if each == NOT_SEEN else each for each in cells)) for name, *cells in rows}

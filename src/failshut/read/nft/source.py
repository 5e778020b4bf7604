"""A text that is read, with its lines and columns, and what was found wrong with it."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from failshut.model.finding import Code, Finding, Place

# Nobody reads more.
MOST_FINDINGS = 100
_LONGEST_LINE = 200


def printable(text: str) -> str:
    """Return text without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text.replace("\t", " "))


@dataclass(slots=True)
class Source:
    """The text, its name, and what was found wrong with it."""

    name: str
    text: str
    findings: list[Finding] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = [0, *(each.end() for each in re.finditer("\n", self.text))]

    def place(self, offset: int, length: int = 1) -> Place:
        """Return the line and column of a character."""
        line = bisect_right(self._starts, offset)
        return Place(self.name, line, offset - self._starts[line - 1] + 1, max(length, 1))

    def line_of(self, offset: int) -> int:
        """Return the number of the line that a character is in, from 1."""
        return bisect_right(self._starts, offset)

    def error(self, code: Code, message: str, offset: int, help: str = "") -> None:  # noqa: A002
        """Add an error at a character."""
        if len(self.findings) == MOST_FINDINGS:
            message, help = "there are more findings than these", ""  # noqa: A001
        elif len(self.findings) > MOST_FINDINGS:
            return
        place = self.place(offset)
        start = self._starts[place.line - 1]
        shown = self.text[start : start + _LONGEST_LINE].split("\n", 1)[0]
        self.findings.append(Finding(code, printable(message), place, printable(help), source=printable(shown)))

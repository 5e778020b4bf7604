"""Findings about a file of rules, taken together: each with its place, and no more than anybody reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from failshut.model.finding import Code, Finding, Place, Severity
from failshut.read.reading import Approximation

MOST = 100
_LONGEST_LINE = 200


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text.replace("\t", " "))


@dataclass(slots=True)
class Remarks:
    """The findings about one file; past `MOST` they are only counted, but whether one of them is an error is kept."""

    file: str
    lines: list[str]
    found: list[Finding] = field(default_factory=list)
    more: int = 0
    more_errors: bool = False
    approximations: list[Approximation] = field(default_factory=list)

    def error(self, code: Code, message: str, at: tuple[int, int, int] = (0, 0, 1), help: str = "") -> None:  # noqa: A002
        """Add an error at (line, column, length), each counted from 1; line 0 means the file as a whole."""
        self._add(code, message, at, help, Severity.ERROR)

    def warning(self, code: Code, message: str, at: tuple[int, int, int] = (0, 0, 1), help: str = "") -> None:  # noqa: A002
        """Add a warning."""
        self._add(code, message, at, help, Severity.WARNING)

    def approximated(self, text: str, assumed: str, at: tuple[int, int, int]) -> None:
        """Add something that is not understood, and what is assumed of it."""
        self.approximations.append(Approximation(_printable(text), assumed, Place(self.file, *at)))

    def all(self) -> tuple[Finding, ...]:
        """Return what was found, and how much more there is."""
        if not self.more:
            return tuple(self.found)
        severity = Severity.ERROR if self.more_errors else Severity.WARNING
        rest = Finding(Code.RULES_SYNTAX, f"{self.more} more findings are not shown", Place(self.file), severity=severity)
        return (*self.found, rest)

    def _add(self, code: Code, message: str, at: tuple[int, int, int], help: str, severity: Severity) -> None:  # noqa: A002
        if len(self.found) >= MOST:
            self.more += 1
            self.more_errors = self.more_errors or severity is Severity.ERROR
            return
        line, column, length = at
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        shown = _printable(text) if len(text) <= _LONGEST_LINE else ""
        place = Place(self.file, line, column, length)
        self.found.append(Finding(code, _printable(message), place, _printable(help), severity, shown))

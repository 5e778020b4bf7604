"""A text with its lines, from which findings take their place and their source line. Keys and passwords are masked here, once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from failshut.config.mistake import Mistake
from failshut.model.finding import Code, Finding, Place, Severity

# The shape of every WireGuard key, 32 bytes in base64; masked wherever it stands, also glued to other letters (wg reads a line
# without its spaces). The length is kept so that carets stay in place.
_KEY = re.compile(r"[A-Za-z0-9+/]{43,}=")
_LONGEST_LINE = 200


def masked(text: str) -> str:
    """Return `text` with everything that looks like a WireGuard key starred out."""
    return _KEY.sub(lambda found: "*" * len(found[0]), text)


def printable(text: str) -> str:
    """Return a text as a terminal may show it: no key, no control character, each character still one column wide."""
    return "".join(each if each.isprintable() else " " if each == "\t" else "\N{REPLACEMENT CHARACTER}" for each in masked(text))


@dataclass(frozen=True, slots=True, repr=False)
class SourceText:
    """The lines of a file, for messages. Its repr shows none of them."""

    path: str
    lines: tuple[str, ...]

    def finding(
        self,
        code: Code,
        message: str,
        at: tuple[int, int, int] = (0, 0, 1),
        help: str = "",  # noqa: A002 - Finding's own word
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """Return a finding at (line, column, length), each counted from 1; line 0 means the file as a whole."""
        line, column, length = at
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        shown = printable(text) if len(text) <= _LONGEST_LINE else ""
        return Finding(code, printable(message), Place(self.path, line, column, length), printable(help), severity, shown)

    def mistake(self, wrong: Mistake, at: tuple[int, int, int]) -> Finding:
        """Return the finding of a mistake that a value's reader raised."""
        return self.finding(wrong.code, wrong.message, at, wrong.help)

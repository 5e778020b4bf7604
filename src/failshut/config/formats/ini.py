"""Reads the two ini dialects of network managers line by line, as their own programs do: systemd's and GLib's.

`configparser` is none of both: it refuses a section that stands twice (every second peer), folds case, and has other comments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from failshut.config.formats.tunnel_config import place
from failshut.config.mistake import shown
from failshut.config.source import SourceText, masked
from failshut.model.finding import Code, Finding

_SPACE = " \t\r\f\v"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, as written; the line counts from 1."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section in the order of the file; one that stands twice is two."""

    name: str
    line: int
    entries: list[Entry] = field(default_factory=list)

    def all(self, key: str) -> Iterator[Entry]:
        """Yield every entry of a key."""
        return (each for each in self.entries if each.key == key)

    def last(self, key: str) -> Entry | None:
        """Return the entry that counts where only one does."""
        return next((each for each in reversed(self.entries) if each.key == key), None)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What begins a comment, and whether a backslash joins a line with the next (systemd.syntax(7); GLib's GKeyFile does not)."""

    comments: str
    joins: bool


SYSTEMD = Dialect("#;", joins=True)
GLIB = Dialect("#", joins=False)


def source_of(text: str, path: str, secrets: frozenset[str]) -> SourceText:
    """Return the lines as findings may show them: without comments, and without the values of `secrets` and of unknown shape."""
    return SourceText(path, tuple(_presentable(each, secrets) for each in text.split("\n")))


def _presentable(line: str, secrets: frozenset[str]) -> str:
    bare = line.strip(_SPACE)
    key, equals, value = line.partition("=")
    if bare.startswith("[") and bare.endswith("]"):
        return masked(line.rstrip(_SPACE))
    if not equals or bare[:1] in ("#", ";"):
        return ""
    hidden = key.strip(_SPACE).lower() in secrets or not key.strip(_SPACE).replace("-", "").isalnum()
    return f"{key}= (hidden)" if hidden and value.strip(_SPACE) else line.rstrip(_SPACE)


def read_sections(text: str, source: SourceText, dialect: Dialect) -> tuple[list[Section], list[Finding]]:
    """Return the sections, and a finding for each line that is none of the dialect's."""
    sections: list[Section] = []
    findings: list[Finding] = []
    for number, line in _logical_lines(text, dialect):
        bare = line.strip(_SPACE)
        if not bare or bare[0] in dialect.comments:
            continue
        key, equals, value = (each.strip(_SPACE) for each in bare.partition("="))
        if bare.startswith("[") and bare.endswith("]"):
            sections.append(Section(bare[1:-1], number))
        elif bare.startswith("[") and not equals:
            findings.append(_bad(source, number, "a section's name has no ']'", "write it as [Name], alone on its line"))
        elif not equals or not key:
            findings.append(_bad(source, number, "this is neither a section nor Key=value", "remove the line, or give it a '='"))
        elif not sections:
            findings.append(_bad(source, number, f"{shown(masked(key))} stands before any section", "begin with its section"))
        else:
            sections[-1].entries.append(Entry(key, value, number))
    return sections, findings


def _bad(source: SourceText, number: int, message: str, remedy: str) -> Finding:
    return source.finding(Code.CONFIG_BAD_LINE, message, place(source, number), remedy)


def _logical_lines(text: str, dialect: Dialect) -> Iterator[tuple[int, str]]:
    """Yield each line with the number of its first part; a comment amid joined lines is left out, as systemd does."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip(_SPACE)
        if parts and bare[:1] and bare[0] in dialect.comments:
            continue
        if not parts:
            first = number
        is_comment = not parts and bare[:1] != "" and bare[0] in dialect.comments
        if dialect.joins and bare.endswith("\\") and not is_comment:
            parts.append(bare[:-1] + " ")
            continue
        yield first, "".join(parts) + line
        parts = []
    if parts:
        yield first, "".join(parts)

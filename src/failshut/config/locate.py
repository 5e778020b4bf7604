"""Finds the line, column and length of every key and value of a TOML text that `tomllib` has already accepted.

`tomllib` gives values without their places. This walks the same text, trusts that it is valid, and keeps only the places.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# A key path: table and key names, and indexes into arrays.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
# The closing delimiter takes up to two quotes that belong to the text (TOML 1.0, multi-line strings).
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")
# The policy has four levels. Paths of thousands of steps would take quadratic time and memory.
_DEEPEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line: `line` and `column` count from 1, `length` is in characters."""

    line: int
    column: int
    length: int


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a key stands and where its value does; a table's value is its header."""

    key: Span
    value: Span


def locate(text: str) -> dict[Path, Spot]:
    """Return the spot of every key path of `text`, which must be valid TOML with line feeds only."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (RecursionError, AttributeError):
        # AttributeError: a pattern did not match. Places are a courtesy: the findings stay without them.
        return scanner.spots
    return scanner.spots


class Spots(Mapping[Path, Spot]):
    """The spot of every key path, looked for when the first is asked for: a policy without a mistake needs none."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _found(self) -> dict[Path, Spot]:
        return locate(self._text)

    def __getitem__(self, path: Path) -> Spot:
        return self._found[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _Scanner:
    """One walk over a text; `spots` fills up on the way."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spots: dict[Path, Spot] = {}
        self._indexes: dict[Path, int] = {}
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def document(self) -> None:
        """Walk headers and key-value lines until the end."""
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        parts = self._keys()
        self.at += 2 if is_array else 1
        path: Path = ()
        for name, span in parts[:-1]:
            path = self._entered((*path, name), span)
        name, span = parts[-1]
        path = (*path, name)
        if is_array:
            self.spots.setdefault(path, Spot(span, span))
            self._indexes[path] = self._indexes.get(path, -1) + 1
            path = (*path, self._indexes[path])
        self.spots[path] = Spot(span, span)
        return path

    def _entered(self, path: Path, span: Span) -> Path:
        self.spots.setdefault(path, Spot(span, span))
        return (*path, self._indexes[path]) if path in self._indexes else path

    def _pair(self, table: Path) -> None:
        path = table
        parts = self._keys()
        for name, span in parts[:-1]:
            path = (*path, name)
            self.spots.setdefault(path, Spot(span, span))
        name, span = parts[-1]
        path = (*path, name)
        self.at += 1
        self._skip(_SPACE)
        begin = self.at
        self._value(path)
        self.spots[path] = Spot(span, self._span(begin, self.at))

    def _value(self, path: Path) -> None:
        match self.text[self.at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"':
                self._skip(_LONG_BASIC if self.text.startswith('"""', self.at) else _BASIC)
            case "'":
                self._skip(_LONG_LITERAL if self.text.startswith("'''", self.at) else _LITERAL)
            case _:
                begin = self.at
                self._skip(_SCALAR)
                self.at = begin + len(self.text[begin : self.at].rstrip())

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        self._skip(_BLANK)
        while self.text[self.at : self.at + 1] not in ("]", ""):
            begin = self.at
            self._value((*path, index))
            span = self._span(begin, self.at)
            self.spots[(*path, index)] = Spot(span, span)
            index += 1
            self._comma()
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at : self.at + 1] not in ("}", ""):
            self._pair(path)
            self._comma()
        self.at += 1

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self.text[self.at : self.at + 1] == ",":
            self.at += 1
            self._skip(_BLANK)

    def _keys(self) -> list[tuple[str, Span]]:
        """Read a dotted key; stop at what follows it."""
        parts: list[tuple[str, Span]] = []
        while True:
            self._skip(_SPACE)
            begin = self.at
            parts.append((self._key(), self._span(begin, self.at)))
            self._skip(_SPACE)
            if self.text[self.at : self.at + 1] != ".":
                return parts
            if len(parts) > _DEEPEST_KEY:
                raise RecursionError
            self.at += 1

    def _key(self) -> str:
        begin = self.at
        match self.text[begin : begin + 1]:
            case '"':
                self._skip(_BASIC)
                decoded: str = tomllib.loads(f"k = {self.text[begin : self.at]}")["k"]
                return decoded
            case "'":
                self._skip(_LITERAL)
                return self.text[begin + 1 : self.at - 1]
            case _:
                self._skip(_BARE_KEY)
                return self.text[begin : self.at]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self.at = pattern.match(self.text, self.at).end()  # type: ignore[union-attr]  # `locate` catches the mismatch

    def _span(self, begin: int, end: int) -> Span:
        line = bisect_right(self._starts, begin)
        start = self._starts[line - 1]
        newline = self.text.find("\n", begin, end)
        return Span(line, begin - start + 1, max((end if newline < 0 else newline) - begin, 1))

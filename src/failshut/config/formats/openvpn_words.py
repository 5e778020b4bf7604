"""An OpenVPN config as words: its own quoting, comments and inline blocks (its options_parse.c), and nothing of what they mean.

What stands in a block may be a key, so that only the lines outside of blocks are ever shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from failshut.config.formats.tunnel_config import place
from failshut.config.mistake import shown
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding

_SPACE = " \t\r\n\v\f"
# OPTION_LINE_SIZE, with the line's end.
LONGEST_LINE = 255
CONNECTION = "connection"
# A comment begins where a word may; a quoted word ends with its quotation; in single quotes a backslash is one.
_WORD = re.compile(
    r"""[ \t\r\n\v\f]*(?:(?P<comment>[#;].*)|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'"""
    r"""|(?P<plain>(?:\\.|[^ \t\r\n\v\f\\"'#;])(?:\\.|[^ \t\r\n\v\f\\])*))""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# Options whose own words are secrets.
_SECRETS = ("setenv", "management", "http-proxy-option", "push", "echo", "compat-names")


@dataclass(frozen=True, slots=True)
class Directive:
    """An option and its words. Those of a <connection> block stand in `inner`; other blocks have none."""

    words: tuple[str, ...]
    line: int
    inner: tuple[Directive, ...] | None = None

    @property
    def name(self) -> str:
        """The option's name."""
        return self.words[0]

    def word(self, index: int) -> str:
        """Return a word behind the name, counted from 1; "" where there is none."""
        return self.words[index] if index < len(self.words) else ""


@dataclass(slots=True)
class _Words:
    """Goes through the file once."""

    source: SourceText
    lines: list[str]
    findings: list[Finding] = field(default_factory=list)
    at: int = 0

    def directives(self, end: str = "") -> list[Directive]:
        """Return what stands up to the line that ends the block, or to the file's end."""
        found: list[Directive] = []
        while self.at < len(self.lines):
            number, line = self.at + 1, self.lines[self.at]
            self.at += 1
            if end and line.strip(_SPACE).startswith(end):
                return found
            words = self._split(line, number)
            if not words:
                continue
            tag = _tag(words)
            if tag == CONNECTION and not end:
                found.append(Directive((CONNECTION,), number, tuple(self.directives(f"</{CONNECTION}>"))))
                self._must_have_ended(CONNECTION, number)
            elif tag.startswith("/") or tag == CONNECTION:
                self._refuse(number, f"<{tag}> ends, or begins, no block here", "each <block> ends with its own </block>")
            elif tag:
                self._skip(tag, number)
                found.append(Directive((tag, "[inline]"), number))
            else:
                found.append(Directive((words[0].removeprefix("--"), *words[1:]), number))
        return found

    def _skip(self, tag: str, number: int) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.strip(_SPACE).startswith(f"</{tag}>"):
                return
        self.at = len(self.lines) + 1
        self._must_have_ended(tag, number)

    def _must_have_ended(self, tag: str, number: int) -> None:
        last = self.lines[self.at - 1] if 0 < self.at <= len(self.lines) else ""
        if not last.strip(_SPACE).startswith(f"</{tag}>"):
            self._refuse(number, f"<{tag}> has no end: the rest of the file is taken for a part of it", f"add a line </{tag}>")

    def _split(self, line: str, number: int) -> list[str]:
        if len(line.rstrip("\r").encode()) >= LONGEST_LINE:
            self._refuse(number, f"the line is longer than OpenVPN takes ({LONGEST_LINE} bytes)", "put a long value into a file")
            return []
        words = split(line)
        if words is None:
            self._refuse(number, "a quotation has no end, or the line ends in a backslash", "close it")
            return []
        return words

    def _refuse(self, number: int, message: str, remedy: str) -> None:
        self.findings.append(self.source.finding(Code.CONFIG_BAD_LINE, message, place(self.source, number), remedy))


def _tag(words: list[str]) -> str:
    """Return what a line that begins a block names; "" for any other line."""
    alone = words[0] if len(words) == 1 else ""
    return alone[1:-1] if alone.startswith("<") and alone.endswith(">") and len(alone) > 2 else ""


def split(line: str) -> list[str] | None:
    """Split a line as OpenVPN's parse_line does; None for a quotation without an end."""
    words: list[str] = []
    at = 0
    while found := _WORD.match(line, at):
        at = found.end()
        if found["comment"]:
            return words
        plain = found["plain"] if found["plain"] is not None else found["double"]
        words.append(_ESCAPED.sub(r"\1", plain) if plain is not None else found["single"])
    return words if not line[at:].strip(_SPACE) else None


def read_words(text: str, path: str) -> tuple[list[Directive], SourceText, list[Finding]]:
    """Return the options in their order, the lines as findings may show them, and a finding for each line that is none."""
    lines = text.removeprefix("\ufeff").split("\n")
    source = SourceText(path, tuple(_presentable(lines)))
    words = _Words(source, lines)
    found = words.directives()
    return found, source, words.findings


def _presentable(lines: list[str]) -> list[str]:
    """Return each line for a message: nothing of a block, no comment, no option that can hold a secret."""
    result = []
    block = ""
    for line in lines:
        words = split(line) or []
        if block:
            ended = line.strip(_SPACE).startswith(f"</{block}>")
            result.append(line.rstrip(_SPACE) if ended else "")
            block = "" if ended else block
            continue
        tag = _tag(words) if words else ""
        if tag and not tag.startswith("/") and tag != CONNECTION:
            block = tag
        secret = bool(words) and words[0].removeprefix("--") in _SECRETS
        result.append(f"{words[0]} (hidden)" if secret else " ".join(words) and line.rstrip(_SPACE))
    return result


def named(directive: Directive) -> str:
    """Return an option as a message names it."""
    return shown(" ".join(directive.words[:3]))

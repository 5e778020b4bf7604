"""A line of iptables-save → its words, cut as iptables-restore cuts them (add_param_to_argv in xshared.c).

Only the double quote quotes, a backslash escapes only between quotes, and a closing quote ends the word.
"""

from __future__ import annotations

import re


class UnclosedQuoteError(ValueError):
    """A quote that is opened at `column` and never closed."""

    def __init__(self, column: int) -> None:
        super().__init__("a quote is opened and never closed")
        self.column = column


_PLAIN = re.compile(r"[^ \t]+")
# A word that is closed by its quote, a quote that is not closed, or a run without any.
_PIECE = re.compile(r'(?P<head>[^ \t"]*)"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<open>[^ \t"]*")|(?P<plain>[^ \t"]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# What str.split() takes for a space and iptables-restore does not.
_OTHER_SPACE = re.compile(r"[^\S \t]")


def split(line: str) -> list[str]:
    """Return the words of a line without their quotes. Raises UnclosedQuoteError."""
    if '"' in line:
        return [_word(found) for found in _PIECE.finditer(line)]
    return _PLAIN.findall(line) if _OTHER_SPACE.search(line) else line.split()


def place(line: str, index: int) -> tuple[int, int]:
    """Return the column, from 1, and the length of the word of that index; those of the whole line when it has no such word."""
    pieces = list(_PIECE.finditer(line))
    if not 0 <= index < len(pieces):
        return 1, max(len(line), 1)
    return pieces[index].start() + 1, len(pieces[index][0])


def _word(found: re.Match[str]) -> str:
    if found["open"]:
        raise UnclosedQuoteError(found.end())
    return found["plain"] or found["head"] + _ESCAPE.sub(r"\1", found["quoted"])

"""A place among the tokens, and what has been noted on the way there."""

from __future__ import annotations

from dataclasses import dataclass, field

from failshut.model.finding import Code
from failshut.model.ruleset import Chain, Family
from failshut.read.nft.source import Source, printable
from failshut.read.nft.text.tokens import CLOSE, END, NEW_LINE, OPEN, SEMICOLON
from failshut.read.reading import Approximation

_OPENING = {"{", "(", "["}
_CLOSING = {"}", ")", "]"}
RULE_END = (NEW_LINE, SEMICOLON, CLOSE, END)


class NotUnderstoodError(ValueError):
    """Words that this reader has no meaning for."""


@dataclass(slots=True)
class Cursor:
    """Reads token by token. `family` is that of the table one is in; `anonymous` are the chains that stand inside of rules."""

    source: Source
    texts: list[str]
    offsets: list[int]
    at: int = 0
    family: Family = Family.IP
    anonymous: list[Chain] = field(default_factory=list)
    approximations: list[Approximation] = field(default_factory=list)

    @property
    def here(self) -> str:
        """The token one stands before; empty at the end."""
        return self.texts[self.at]

    @property
    def offset(self) -> int:
        """Where in the source that token is."""
        return self.offsets[self.at]

    def ahead(self, count: int = 1) -> str:
        """Return a token further on."""
        index = self.at + count
        return self.texts[index] if index < len(self.texts) else END

    def take(self) -> str:
        """Return the token and go on. Raises `NotUnderstoodError` where a rule ends."""
        text = self.texts[self.at]
        if text in RULE_END:
            raise NotUnderstoodError("it breaks off here")
        self.at += 1
        return text

    def word(self) -> str:
        """Take a word or a quoted text, without its quotes."""
        text = self.take()
        if text[0] in _OPENING or text in _CLOSING or text in (",", "="):
            raise NotUnderstoodError(f"{text!r} where a word is due")
        return text[1:-1] if text.startswith('"') else text

    def accept(self, text: str) -> bool:
        """Take the token if it is this one."""
        if self.texts[self.at] != text:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        """Take this token. Raises `NotUnderstoodError` when it is another."""
        if not self.accept(text):
            raise NotUnderstoodError(f"{self.here!r} where {text!r} is due")

    def skip_lines(self) -> None:
        """Pass line ends, where they mean nothing."""
        while self.texts[self.at] == NEW_LINE:
            self.at += 1

    def skip_separators(self) -> None:
        """Pass line ends and semicolons."""
        while self.texts[self.at] in (NEW_LINE, SEMICOLON):
            self.at += 1

    def skip_rule(self) -> None:
        """Pass what is left of a rule, with the blocks in it."""
        depth = 0
        while (text := self.texts[self.at]) != END and (depth or text not in RULE_END):
            depth += (text in _OPENING) - (text in _CLOSING)
            self.at += 1
            if depth < 0:
                return

    def skip_block(self) -> None:
        """Pass everything up to the brace that closes the one behind which one stands."""
        depth = 1
        while depth and self.texts[self.at] != END:
            depth += (self.texts[self.at] == OPEN) - (self.texts[self.at] == CLOSE)
            self.at += 1

    def text_since(self, start: int) -> str:
        """Return the source between a token and the one that one stands before, on one line."""
        last = max(self.at - 1, start)
        end, text = self.offsets[last], self.texts[last]
        # A variable's value does not stand here, and a comment behind the last token is none of it.
        end = end + len(text) if self.source.text.startswith(text, end) else self.offsets[self.at]
        return printable(" ".join(self.source.text[self.offsets[start] : end].split()))

    def assume(self, start: int, text: str, assumed: str) -> None:
        """Note that something was not understood, and what is taken for it."""
        self.approximations.append(Approximation(text, assumed, self.source.place(self.offsets[start])))

    def refuse(self, start: int, error: Exception) -> None:
        """Note an error of the text, where one stands, or at `start` when one stands before it."""
        at = min(max(self.at, start), len(self.offsets) - 1)
        self.source.error(Code.RULES_SYNTAX, str(error), self.offsets[at])

    def not_closed(self, opened: int, what: str) -> None:
        """Note that the text ends within a block, where it opened at a token."""
        self.source.error(
            Code.RULES_SYNTAX, f"the text ends within {what}", self.offsets[opened], "it has no `}`, or the file is not whole"
        )

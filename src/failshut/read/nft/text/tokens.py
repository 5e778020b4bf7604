"""nft's text → tokens, with every `$variable` replaced by what it was defined as."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from failshut.model.finding import Code
from failshut.read.nft.source import Source

# What is skipped first, then: a long list of addresses as nft writes it, which is one token, a raw payload load, a name with a
# sign, text, a comment that stands for a match of iptables that old releases of nft can't say (it is no comment: it decides), runs
# of word characters, operators, line ends.
_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\f\v]+|\\\r?\n|\#(?![ ]xt_)[^\n]*)
    |(?P<token>(?<=addr\ )\{\ [0-9A-Fa-f.:/-]+(?:,\ [0-9A-Fa-f.:/-]+){63,}\ \}
    |@(?:ll|nh|th|ih),\d+,\d+|[@$][A-Za-z_][A-Za-z0-9_.\\/-]*|"[^"]*"|\#[ ]xt_\w+
    |(?:[A-Za-z0-9_.:/%*-]|\\[^\n])+|<<|>>|[=!<>]=|[\n;{}()\[\],=!<>&|^+@$])[ \t]*""",
    re.VERBOSE,
)
_PARTS = re.compile(r"[^\s,{}]+|[,{}]")
NEW_LINE, SEMICOLON, OPEN, CLOSE, END = "\n", ";", "{", "}", ""
# A text whose variables multiply beyond this is not read further.
MOST_TOKENS = 4_000_000


@dataclass(slots=True)
class Tokens:
    """The tokens' text and where each begins in the source; the last one is empty and stands at the source's end."""

    texts: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, text: str, offset: int) -> None:
        """Append one token."""
        self.texts.append(text)
        self.offsets.append(offset)


def parts(text: str, offset: int) -> Tokens:
    """Return the tokens that a long list stands for."""
    found = Tokens()
    for each in _PARTS.finditer(text):
        found.add(each[0], offset + each.start())
    return found


def tokenize(source: Source) -> Tokens:
    """Return the tokens of a text. What can't be one is a finding, and is left out."""
    found, at, text = Tokens(), 0, source.text
    add_text, add_offset = found.texts.append, found.offsets.append
    while at < len(text):
        for matched in _TOKEN.finditer(text, at):
            if matched.start() != at:
                break
            if matched.lastgroup == "token":
                add_text(matched[2])
                add_offset(at)
            at = matched.end()
        if at < len(text):
            at = _unreadable(source, found, at)
    found.add(END, len(text))
    return _without_variables(source, found) if "$" in text or "define" in text or "undefine" in text else found


def _unreadable(source: Source, found: Tokens, at: int) -> int:
    if source.text[at] == '"':
        # To nft a text may go on over lines: it ends where the next one was to begin, and this one is only what is left over.
        over_lines = (offset for text, offset in zip(found.texts, found.offsets, strict=True) if text[0] == '"' and "\n" in text)
        source.error(Code.RULES_SYNTAX, "a text that is not closed", next(over_lines, at), "every text has a quote at its end")
        return len(source.text)
    if not any(each.code is Code.RULES_SYNTAX and each.place.line == source.line_of(at) for each in source.findings[-1:]):
        source.error(Code.RULES_SYNTAX, f"{source.text[at]!r} has no meaning here", at)
    return at + 1


def _without_variables(source: Source, tokens: Tokens) -> Tokens:
    found = Tokens()
    variables = _Variables(source, tokens)
    texts, offsets, at = tokens.texts, tokens.offsets, 0
    while at < len(texts):
        text = texts[at]
        if text in ("define", "redefine") and texts[at + 2 : at + 3] == ["="]:
            at = variables.define(at)
            continue
        if text == "undefine":
            variables.scopes[-1].pop(texts[at + 1], None)
            at += 2
            continue
        if text == OPEN:
            variables.scopes.append({})
        elif text == CLOSE and len(variables.scopes) > 1:
            variables.scopes.pop()
        for each in variables.expand(at):
            found.add(each, offsets[at])
        if variables.made > MOST_TOKENS:
            source.error(Code.RULES_SYNTAX, "the variables multiply this text beyond all measure", offsets[at])
            break
        at += 1
    if found.texts[-1:] != [END]:
        found.add(END, len(source.text))
    return found


@dataclass(slots=True)
class _Variables:
    """The definitions that hold at a point of the text, each block with its own; `made` counts the tokens that they gave."""

    source: Source
    tokens: Tokens
    scopes: list[dict[str, list[str]]] = field(default_factory=lambda: [{}])
    made: int = 0

    def define(self, at: int) -> int:
        """Take the definition at an index, and return the index behind it."""
        texts, end, depth = self.tokens.texts, at + 3, 0
        while texts[end] != END and (depth > 0 or texts[end] not in (NEW_LINE, SEMICOLON, CLOSE)):
            depth += (texts[end] == OPEN) - (texts[end] == CLOSE)
            end += 1
        value: list[str] = []
        for index in range(at + 3, end):
            value += self.expand(index)
        self.scopes[-1][texts[at + 1]] = value
        return end

    def expand(self, index: int) -> list[str]:
        """Return what the token at an index stands for: itself, or a variable's value. After too many: nothing."""
        text = self.tokens.texts[index]
        if not text.startswith("$"):
            return [text]
        value = next((scope[text[1:]] for scope in reversed(self.scopes) if text[1:] in scope), None)
        if value is None:
            message = f"the variable {text} is not defined"
            self.source.error(Code.RULES_BAD_VALUE, message, self.tokens.offsets[index], "what nft's -D defines is not known here")
            return [text]
        self.made += len(value)
        return value if self.made <= MOST_TOKENS else []

"""Reads failshut.toml: text in, a `Declaration` or the findings that forbid one. Nothing outside the text is looked at."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from failshut.config.declaration import Declaration
from failshut.config.explain import explain
from failshut.config.locate import Spots
from failshut.config.prune import validate
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding

_TOML_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_INIT = "`failshut init` writes a commented policy"


def parse(text: bytes | str, path: str) -> Declaration | list[Finding]:
    """Read a policy file's text; `path` is only named in messages.

    A list of findings means that there is nothing to go on with. A declaration may carry findings too, and is then without the
    parts they refuse: the rest is still worth checking, so that the user sees every mistake at once.
    """
    decoded = _decode(text, path)
    if isinstance(decoded, Finding):
        return [decoded]
    source = SourceText(path, tuple(decoded.split("\n")))
    if not re.sub(r"#[^\n]*", "", decoded).strip():
        return [source.finding(Code.EMPTY, "the policy is empty", help=_INIT)]
    try:
        return _declare(decoded, tomllib.loads(decoded), source)
    except RecursionError:
        return [source.finding(Code.NOT_TOML, "the file nests its tables or arrays too deep", help=_INIT)]
    except ValueError as error:
        # TOMLDecodeError is one; int() raises a plain one for a number of thousands of digits.
        return [_not_toml(error, source)]


def _declare(text: str, tree: dict[str, Any], source: SourceText) -> Declaration:
    spots = Spots(text)
    document, mirror, errors, damaged = validate(tree)
    findings = tuple(explain(each, source, spots) for each in errors)
    return Declaration(document, source, spots, mirror, findings, damaged)


def _decode(text: bytes | str, path: str) -> str | Finding:
    if isinstance(text, bytes):
        decoded = _from_bytes(text, path)
        if isinstance(decoded, Finding):
            return decoded
        text = decoded
    return text.replace("\r\n", "\n")


def _from_bytes(raw: bytes, path: str) -> str | Finding:
    if b"\0" in raw:
        wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        remedy = "save it as UTF-8, not UTF-16" if wide else "this is not a policy file: " + _INIT
        return SourceText(path, ()).finding(Code.NOT_TEXT, "the file holds NUL bytes: it is not text in UTF-8", help=remedy)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted in the bytes themselves: with a byte-order mark, `error.start` counts from behind it.
        start = error.start + (len(raw) - len(error.object))
        line = raw.count(b"\n", 0, start) + 1
        before = raw[raw.rfind(b"\n", 0, start) + 1 : start].decode("utf-8", errors="replace")
        lines = tuple(raw.decode("utf-8", errors="replace").split("\n"))
        message = f"byte {raw[start]:#04x} is not UTF-8"
        return SourceText(path, lines).finding(Code.NOT_TEXT, message, (line, len(before) + 1, 1), "save the file as UTF-8")


def _not_toml(error: ValueError, source: SourceText) -> Finding:
    message = str(error)
    found = _TOML_PLACE.search(message)
    if not found:
        return source.finding(
            Code.NOT_TOML, "the file holds a value that can't be read", help="numbers of more than 4300 digits can't be meant"
        )
    message = message[: found.start()]
    if found["line"]:
        line, column = int(found["line"]), int(found["column"])
    else:
        line, column = len(source.lines), len(source.lines[-1]) + 1
    return source.finding(
        Code.NOT_TOML, f"not TOML: {message[:1].lower()}{message[1:]}", (line, column, 1), _toml_help(message, source, line)
    )


def _toml_help(message: str, source: SourceText, line: int) -> str:
    text = source.lines[line - 1] if line <= len(source.lines) else ""
    key, equals, value = text.partition("=")
    if message.startswith("Invalid value") and equals and re.fullmatch(r"[A-Za-z][^\"'#]*", value.strip()):
        word = value.strip()
        return f"write {word.lower()}" if word.lower() in ("true", "false") else f'text needs quotes: {key.strip()} = "{word}"'
    if message.startswith("Cannot overwrite"):
        return "a key may stand only once in its table"
    if message.startswith("Cannot declare"):
        return "a table may be opened only once: move its keys together"
    if text.lstrip().startswith("["):
        return "a table's header stands alone on its line: [allow] or [[allow.inbound]]"
    return "text stands in quotes, lists in [ ], one key a line; https://toml.io shows the syntax"

"""Turns the schema's complaints into findings: what, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from failshut.config.locate import Path, Spot
from failshut.config.mistake import Mistake, shown, type_word
from failshut.config.prune import KEY
from failshut.config.schema import TABLES, keys_of
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding

_WANTED = {
    "bool_type": "true or false",
    "int_type": "a number",
    "string_type": "a string",
    "list_type": "an array: [ … ]",
    "model_type": "a table",
    "dict_type": "a table",
}


def explain(error: Any, source: SourceText, spots: Mapping[Path, Spot]) -> Finding:
    """Return the finding of one pydantic error."""
    path: Path = tuple(each for each in error["loc"] if each != KEY)
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(path, source, spots)
        case "missing":
            message = f"{table_name(path[:-1])} lacks the key '{path[-1]}'"
            return source.finding(Code.MISSING_KEY, message, _at(path[:-1], spots, key=True), _missing_help(path))
        case "value_error" if isinstance(error["ctx"]["error"], Mistake):
            mistake: Mistake = error["ctx"]["error"]
            if error["loc"][-1] == KEY:
                return source.mistake(mistake, _at(path, spots, key=True))
            return source.finding(mistake.code, f"{_subject(path)}: {mistake.message}", _at(path, spots), mistake.help)
        case _:
            return _misshapen(error, path, source, _at(path, spots))


def _misshapen(error: Any, path: Path, source: SourceText, at: tuple[int, int, int]) -> Finding:
    """Explain a value of the wrong shape, which pydantic itself refused."""
    kind, subject = error["type"], _subject(path)
    if kind in _WANTED:
        message = f"{subject}: expected {_WANTED[kind]}, found {type_word(error['input'])}"
        return source.finding(Code.WRONG_TYPE, message, at, _type_help(path, kind, error["input"]))
    if kind == "too_short":
        return source.finding(Code.BAD_VALUE, f"{subject}: expected at least one item", at, "name one, or remove the table")
    return source.finding(Code.BAD_VALUE, f"{subject}: {error['msg']}", at)


def table_name(path: Path) -> str:
    """Return how the table at `path` is written in the file: [tunnel.wg0], [[allow.inbound]]."""
    names = ".".join(str(each) for each in path if isinstance(each, str))
    if not names:
        return "the file"
    return shown(f"[[{names}]]" if isinstance(path[-1], int) else f"[{names}]").strip("'")


def _subject(path: Path) -> str:
    names = [str(each) for each in path if isinstance(each, str)]
    return shown(names[-1]) if names else "the file"


def _at(path: Path, spots: Mapping[Path, Spot], *, key: bool = False) -> tuple[int, int, int]:
    while path and path not in spots:
        path = path[:-1]
    if path not in spots:
        return (0, 0, 1)
    span = spots[path].key if key else spots[path].value
    return (span.line, span.column, span.length)


def _pattern(path: Path) -> tuple[str, ...]:
    steps = ["#" if isinstance(each, int) else each for each in path]
    if len(steps) > 1 and steps[0] == "tunnel":
        steps[1] = "*"
    return tuple(steps)


def _unknown_key(path: Path, source: SourceText, spots: Mapping[Path, Spot]) -> Finding:
    table, key = path[:-1], str(path[-1])
    known = keys_of(TABLES[_pattern(table)])
    message = f"unknown key {shown(key)} in {table_name(table)}"
    return source.finding(Code.UNKNOWN_KEY, message, _at(path, spots, key=True), _unknown_help(key, known))


def _unknown_help(key: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    homes = [_home(pattern) for pattern, table in TABLES.items() if key in keys_of(table)]
    if homes:
        return f"'{key}' belongs in {' or '.join(homes)}"
    everywhere = {each: pattern for pattern, table in TABLES.items() for each in keys_of(table)}
    close = get_close_matches(key.lower(), everywhere, n=1)
    if close:
        return f"did you mean '{close[0]}' in {_home(everywhere[close[0]])}?"
    return f"the keys here are: {', '.join(known)}"


def _home(pattern: tuple[str, ...]) -> str:
    names = ".".join("NAME" if each == "*" else each for each in pattern if each != "#")
    if not names:
        return "the top of the file"
    return f"[[{names}]]" if pattern[-1] == "#" else f"[{names}]"


_EXAMPLES = {
    "prefixes": 'prefixes = ["192.168.1.0/24"]',
    "to": 'to = ["192.0.2.123"]',
    "port": "port = 22",
    "name": 'name = "ssh"',
    "protocol": 'protocol = "udp"',
}


def _missing_help(path: Path) -> str:
    return f"add, for example: {_EXAMPLES.get(str(path[-1]), str(path[-1]) + ' = …')}"


def _type_help(path: Path, kind: str, found: object) -> str:
    if path[0] == "tunnel" and len(path) <= 2 and kind in ("model_type", "dict_type"):
        return "a tunnel is named in its table's header: [tunnel.wg0]"
    if kind == "list_type" and path[-1] in ("inbound", "outbound"):
        return f"each one is a table of its own: [[allow.{path[-1]}]]"
    if kind == "list_type" and isinstance(found, str):
        return f'put it in brackets: {path[-1]} = ["{found}"]'
    if kind == "bool_type":
        return f"write {path[-1]} = true or {path[-1]} = false, without quotes"
    return ""

"""The blocks of nft's grammar: a table, and what stands in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from failshut.model.ruleset import (
    Base,
    ChainType,
    Flowtable,
    Hook,
    Limit,
    Object,
    Origin,
    Quota,
    Verdict,
)
from failshut.read.constants import number
from failshut.read.nft.meaning import priority_named
from failshut.read.nft.text.cursor import Cursor, NotUnderstoodError
from failshut.read.nft.text.draft import ChainDraft, TableDraft
from failshut.read.nft.text.sets import map_block, set_block, words
from failshut.read.nft.text.statements import limit_body, quota_body, rule
from failshut.read.nft.text.values import braced

_TYPES = frozenset(each.value for each in ChainType)
_HOOKS = frozenset(each.value for each in Hook)
_TWO_WORDS = {"helper": "ct helper", "timeout": "ct timeout", "expectation": "ct expectation"}


def table_block(cursor: Cursor, table: TableDraft, opened: int) -> None:
    """Read what stands between a table's braces; the first of them is taken."""
    cursor.family, cursor.anonymous = table.family, table.anonymous
    # A block says all of the table's flags: without this one it wakes a table that slept.
    table.flags.discard("dormant")
    while True:
        cursor.skip_separators()
        if cursor.accept("}"):
            return
        if not cursor.here:
            cursor.not_closed(opened, f"table {table.family} {table.name}")
            return
        start = cursor.at
        try:
            _member(cursor, table)
        except ValueError as error:
            cursor.refuse(start, error)
            _skip_member(cursor, start)


def _skip_member(cursor: Cursor, start: int) -> None:
    cursor.at = max(start, min(cursor.at, len(cursor.texts) - 1))
    before = cursor.at
    cursor.at = start
    cursor.skip_rule()
    if cursor.at == start and before == start:
        cursor.at += 1


def _member(cursor: Cursor, table: TableDraft) -> None:
    kind = cursor.word()
    if kind == "flags":
        table.flags |= words(cursor)
    elif kind == "comment":
        cursor.word()
    elif kind == "ct":
        _object(cursor, table, _TWO_WORDS.get(cursor.word(), "ct"))
    elif kind in MEMBERS:
        MEMBERS[kind](cursor, table)
    else:
        cursor.at -= 1
        raise NotUnderstoodError(f"{kind!r} has no meaning in a table")


def _open(cursor: Cursor) -> tuple[str, int, Origin]:
    """Take a name and the brace behind it."""
    start = cursor.at - 1
    name = cursor.word()
    origin = Origin(cursor.source.name, cursor.source.line_of(cursor.offsets[start]), cursor.text_since(start))
    cursor.skip_lines()
    cursor.expect("{")
    return name, start, origin


# --- chains ---------------------------------------------------------------------------------------------------------------


def chain(cursor: Cursor, table: TableDraft) -> None:
    """Read `chain NAME { ... }`; the first word is taken."""
    name, opened, origin = _open(cursor)
    chain_block(cursor, table, table.chain(name, origin), opened)


def chain_block(cursor: Cursor, table: TableDraft, draft: ChainDraft, opened: int) -> None:
    """Read what stands between a chain's braces; the first of them is taken."""
    while True:
        cursor.skip_separators()
        if cursor.accept("}"):
            return
        if not cursor.here:
            cursor.not_closed(opened, f"chain {draft.name} of table {table.family} {table.name}")
            return
        start = cursor.at
        header = _HEADERS.get(cursor.here)
        if header is None:
            draft.rules.append(rule(cursor))
            continue
        try:
            header(cursor, draft)
        except ValueError as error:
            cursor.refuse(start, error)
            cursor.skip_rule()


def _type(cursor: Cursor, draft: ChainDraft) -> None:
    """Read `type filter hook output device "eth0" priority filter + 5`."""
    cursor.expect("type")
    kind = cursor.word()
    if kind not in _TYPES:
        raise NotUnderstoodError(f"{kind!r} is no type of a chain")
    cursor.expect("hook")
    hook = cursor.word()
    if hook not in _HOOKS:
        raise NotUnderstoodError(f"{hook!r} is no hook")
    device = ""
    if cursor.here in ("device", "devices"):
        cursor.at += 1
        cursor.accept("=")
        device = ",".join(_devices(cursor)) if cursor.here == "{" else cursor.word()
    cursor.expect("priority")
    policy = draft.base.policy if draft.base else Verdict.ACCEPT
    draft.base = Base(ChainType(kind), Hook(hook), _priority(cursor), policy, device)


def _devices(cursor: Cursor) -> list[str]:
    return braced(cursor, cursor.word)


def _priority(cursor: Cursor) -> int:
    word = cursor.word()
    if word.lstrip("-").isdecimal():
        return _signed(word)
    value = priority_named(word, cursor.family)
    if value is None:
        raise NotUnderstoodError(f"{word!r} is no priority in a table of family {cursor.family}")
    if cursor.here in ("+", "-"):
        sign = -1 if cursor.take() == "-" else 1
        return value + sign * number(cursor.word())
    return value + _signed(cursor.word()) if cursor.here.startswith("-") else value


def _signed(word: str) -> int:
    value = number(word.removeprefix("-"))
    return -value if word.startswith("-") else value


def _policy(cursor: Cursor, draft: ChainDraft) -> None:
    cursor.expect("policy")
    word = cursor.word()
    if word not in ("accept", "drop"):
        raise NotUnderstoodError(f"{word!r} is no policy")
    if draft.base:
        draft.base = replace(draft.base, policy=Verdict(word))


def _flags(cursor: Cursor, draft: ChainDraft) -> None:
    cursor.expect("flags")
    draft.flags |= words(cursor)


def _comment(cursor: Cursor, _: ChainDraft) -> None:
    cursor.expect("comment")
    cursor.word()


_HEADERS: dict[str, Callable[[Cursor, ChainDraft], None]] = {
    "type": _type,
    "policy": _policy,
    "flags": _flags,
    "comment": _comment,
}


# --- sets, and other objects with a name ----------------------------------------------------------------------------------


def _set(cursor: Cursor, table: TableDraft) -> None:
    name, opened, origin = _open(cursor)
    table.sets[name] = set_block(cursor, table.sets.get(name), name, opened, origin)


def _map(cursor: Cursor, table: TableDraft) -> None:
    name, opened, origin = _open(cursor)
    table.maps[name] = map_block(cursor, table.maps.get(name), name, opened, origin)


def _counter(cursor: Cursor, table: TableDraft) -> None:
    name, _, _ = _open(cursor)
    table.counters[name] = None
    cursor.skip_block()


def _object(cursor: Cursor, table: TableDraft, kind: str) -> None:
    name, _, _ = _open(cursor)
    cursor.skip_separators()
    statement = _BODIES[kind](cursor) if kind in _BODIES else None
    table.objects[kind, name] = Object(kind, name, statement)
    cursor.skip_block()


_BODIES: dict[str, Callable[[Cursor], Limit | Quota]] = {"limit": limit_body, "quota": quota_body}


def _flowtable(cursor: Cursor, table: TableDraft) -> None:
    name, _, _ = _open(cursor)
    priority = 0
    devices: tuple[str, ...] = ()
    while not cursor.accept("}"):
        if cursor.accept("priority"):
            priority = _priority(cursor)
        elif cursor.accept("devices"):
            cursor.accept("=")
            devices = tuple(_devices(cursor))
        elif not cursor.here:
            raise NotUnderstoodError(f"the text ends within the flowtable {name}")
        else:
            cursor.at += 1
    table.flowtables[name] = Flowtable(name, priority, devices)


def _named(kind: str) -> Callable[[Cursor, TableDraft], None]:
    return lambda cursor, table: _object(cursor, table, kind)


MEMBERS: dict[str, Callable[[Cursor, TableDraft], None]] = {
    "chain": chain,
    "set": _set,
    "map": _map,
    "counter": _counter,
    "flowtable": _flowtable,
    **{kind: _named(kind) for kind in ("limit", "quota", "secmark", "synproxy")},
}

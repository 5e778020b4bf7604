"""What stands outside of blocks: `add rule ...`, `flush ruleset`, `delete ...`, and the blocks themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from failshut.model.finding import Code
from failshut.model.ruleset import Family
from failshut.read.constants import number
from failshut.read.nft.text.blocks import MEMBERS, chain_block, table_block
from failshut.read.nft.text.cursor import RULE_END, Cursor, NotUnderstoodError
from failshut.read.nft.text.draft import Draft, TableDraft
from failshut.read.nft.text.sets import contents
from failshut.read.nft.text.statements import origin, rule

_FAMILIES = {each.value: each for each in Family}
_Item = TypeVar("_Item")
_ELSEWHERE = "give the listing of the loaded rules instead"


def commands(cursor: Cursor, draft: Draft) -> None:
    """Read to the end. A command that can't be read is a finding, and reading goes on behind it."""
    while True:
        cursor.skip_separators()
        if not cursor.here:
            return
        start = cursor.at
        try:
            _command(cursor, draft)
        except (ValueError, RecursionError) as error:
            why = error if isinstance(error, ValueError) else NotUnderstoodError("it is nested too deeply")
            cursor.refuse(start, why)
            cursor.at = start
            cursor.skip_rule()
            if cursor.at == start:
                cursor.at += 1
        if cursor.here not in RULE_END:
            cursor.refuse(cursor.at, NotUnderstoodError(f"{cursor.here!r} behind the end of a command"))
            cursor.skip_rule()


def _command(cursor: Cursor, draft: Draft) -> None:
    word = cursor.word() if cursor.here != "}" else cursor.here
    if word in _FAMILIES and cursor.here != "{":
        # `ip filter input ...`, without saying what is added.
        cursor.at -= 1
        _add_rule(cursor, draft)
    elif word in _COMMANDS:
        _COMMANDS[word](cursor, draft)
    elif word in _OBJECTS:
        cursor.at -= 1
        _add(cursor, draft)
    else:
        cursor.at -= 0 if word == "}" else 1
        raise NotUnderstoodError(f"{word!r} is no command")


def _table_of(cursor: Cursor, draft: Draft) -> TableDraft:
    family = _FAMILIES[cursor.take()] if cursor.here in _FAMILIES else Family.IP
    table = draft.table(family, cursor.word())
    cursor.family, cursor.anonymous = family, table.anonymous
    return table


def _add(cursor: Cursor, draft: Draft) -> None:
    kind = cursor.word()
    if kind not in _OBJECTS:
        cursor.at -= 1
        _add_rule(cursor, draft)
    elif kind == "table":
        opened = cursor.at - 1
        table = _table_of(cursor, draft)
        if _opens_next(cursor):
            cursor.skip_lines()
        if cursor.accept("{"):
            table_block(cursor, table, opened)
    elif kind == "rule":
        _add_rule(cursor, draft)
    elif kind == "element":
        _change_elements(cursor, draft, added=True)
    else:
        _add_member(cursor, draft, kind)


def _opens_next(cursor: Cursor) -> bool:
    count = 0
    while cursor.ahead(count) == "\n":
        count += 1
    return cursor.ahead(count) == "{"


def _add_member(cursor: Cursor, draft: Draft, kind: str) -> None:
    """Read `add chain inet filter input { ... }`: as in a table, with the table's name before the member's."""
    if kind == "ct":
        cursor.word()
    start = cursor.at
    table = _table_of(cursor, draft)
    if kind == "chain" and cursor.ahead() != "{":
        table.chain(cursor.word(), origin(cursor, start))
        return
    if kind == "chain":
        name = cursor.word()
        cursor.expect("{")
        chain_block(cursor, table, table.chain(name, origin(cursor, start)), start)
        return
    if kind == "counter" and cursor.ahead() != "{":
        table.counters[cursor.word()] = None
        cursor.skip_rule()
        return
    MEMBERS["secmark" if kind == "ct" else kind](cursor, table)


def _add_rule(cursor: Cursor, draft: Draft) -> None:
    chain = _table_of(cursor, draft).chain(cursor.word())
    index = _position(cursor)
    chain.rules.insert(len(chain.rules) if index is None else index + 1, rule(cursor))


def _insert(cursor: Cursor, draft: Draft) -> None:
    cursor.accept("rule")
    chain = _table_of(cursor, draft).chain(cursor.word())
    chain.rules.insert(_position(cursor) or 0, rule(cursor))


def _position(cursor: Cursor) -> int | None:
    """Read `index 3`; a handle is the kernel's own and can't be followed."""
    if cursor.accept("index"):
        return number(cursor.word())
    if cursor.here in ("handle", "position"):
        what = cursor.take()
        message = f"a rule at a {what}, which only the kernel knows"
        cursor.source.error(Code.RULES_COMMAND, message, cursor.offset, _ELSEWHERE)
        cursor.word()
    return None


def _change_elements(cursor: Cursor, draft: Draft, *, added: bool) -> None:
    table = _table_of(cursor, draft)
    start, name = cursor.at, cursor.word()
    known_set, known_map = table.sets.get(name), table.maps.get(name)
    named = known_set or known_map
    if named is None:
        message = f"there is no set or map {name} in table {table.family} {table.name}"
        cursor.source.error(Code.RULES_NO_TARGET, message, cursor.offsets[start])
        cursor.skip_rule()
        return
    if "dynamic" in named.flags:
        cursor.skip_rule()
        return
    at = cursor.at
    found = contents(cursor, named.key, known_map.data if known_map else (), f"the set {name}")
    if found is None:
        cursor.at = at
        cursor.skip_rule()
    if known_set:
        table.sets[name] = replace(known_set, elements=_changed(known_set.elements, found and found[0], added=added))
    elif known_map:
        table.maps[name] = replace(known_map, elements=_changed(known_map.elements, found and found[1], added=added))


def _changed(known: tuple[_Item, ...] | None, change: list[_Item] | None, *, added: bool) -> tuple[_Item, ...] | None:
    if known is None or change is None:
        return None
    return (*known, *change) if added else tuple(each for each in known if each not in change)


def _flush(cursor: Cursor, draft: Draft) -> None:
    kind = cursor.word()
    if kind == "ruleset":
        family = _FAMILIES[cursor.take()] if cursor.here in _FAMILIES else None
        for key in [key for key in draft.tables if family in (None, key[0])]:
            del draft.tables[key]
        return
    table = _table_of(cursor, draft)
    if kind == "table":
        for each in table.chains.values():
            each.rules.clear()
    elif kind == "chain":
        table.chain(cursor.word()).rules.clear()
    elif kind in ("set", "map", "meter"):
        name = cursor.word()
        if name in table.sets:
            table.sets[name] = replace(table.sets[name], elements=())
        if name in table.maps:
            table.maps[name] = replace(table.maps[name], elements=())
    else:
        raise NotUnderstoodError(f"{kind!r} can't be flushed")


def _delete(cursor: Cursor, draft: Draft) -> None:
    start, kind = cursor.at - 1, cursor.word()
    if kind == "element":
        _change_elements(cursor, draft, added=False)
        return
    if kind == "ct":
        cursor.word()
    if kind == "rule" or cursor.here == "handle" or cursor.ahead() == "handle":
        message = "a command with a handle, which only the kernel knows"
        cursor.source.error(Code.RULES_COMMAND, message, cursor.offsets[start], _ELSEWHERE)
        cursor.skip_rule()
        return
    table = _table_of(cursor, draft)
    if kind == "table":
        del draft.tables[table.family, table.name]
        return
    name = cursor.word()
    for members in (table.chains,) if kind == "chain" else (table.sets, table.maps, table.counters, table.flowtables):
        members.pop(name, None)
    cursor.skip_rule()


def _elsewhere(cursor: Cursor, _: Draft) -> None:
    start, file = cursor.at - 1, cursor.word()
    message = f"the rules of {file} stand elsewhere and are not read"
    cursor.source.error(Code.RULES_ELSEWHERE, message, cursor.offsets[start], _ELSEWHERE)


def _cannot_follow(cursor: Cursor, _: Draft) -> None:
    start = cursor.at - 1
    message = f"what {cursor.texts[start]!r} does can't be followed without the kernel"
    cursor.source.error(Code.RULES_COMMAND, message, cursor.offsets[start], _ELSEWHERE)
    cursor.skip_rule()


def _nothing(cursor: Cursor, _: Draft) -> None:
    cursor.skip_rule()


_OBJECTS = frozenset({"table", "rule", "element", "ct", *MEMBERS})
_COMMANDS: dict[str, Callable[[Cursor, Draft], None]] = {
    "add": _add,
    "create": _add,
    "insert": _insert,
    "flush": _flush,
    "delete": _delete,
    "destroy": _delete,
    "include": _elsewhere,
    "replace": _cannot_follow,
    "rename": _cannot_follow,
    # They change nothing that a packet's way depends on.
    **dict.fromkeys(("list", "reset", "monitor", "describe", "export"), _nothing),
}

"""Sets and maps with names, and their elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from failshut.model.ruleset import Element, Ending, Jump, NamedMap, NamedSet, Origin, Scalar, Tuple, Verdict
from failshut.model.symbols import INTEGER
from failshut.read.constants import number, seconds
from failshut.read.nft.text.cursor import Cursor, NotUnderstoodError
from failshut.read.nft.text.expressions import expression
from failshut.read.nft.text.values import elements, mappings
from failshut.read.nft.values import types_of

_Data = Scalar | Tuple | Verdict | Jump


@dataclass(slots=True)
class _Block:
    """What stands between the braces of a set or a map. `elements` are None when they were not understood."""

    what: str
    key: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    size: int = 0
    timeout: int = 0
    counter: bool = False
    elements: tuple[Element, ...] | None = ()
    mappings: tuple[tuple[Element, _Data], ...] | None = ()
    ends: list[Ending] = field(default_factory=list)


def set_block(cursor: Cursor, before: NamedSet | None, name: str, opened: int, origin: Origin) -> NamedSet:
    """Read what stands between a set's braces; the first of them is taken. `before` is what was said of the set already."""
    known = before or NamedSet(name, (), origin=origin)
    block = _Block(f"the set {name}", known.key, (), known.flags, known.size, known.timeout, known.counter, known.elements)
    _read(cursor, block, opened)
    ends = tuple(replace(each, timeout=each.timeout or block.timeout) for each in block.ends)
    return NamedSet(name, block.key, block.flags, block.size, block.timeout, block.counter, block.elements, known.origin, ends)


def map_block(cursor: Cursor, before: NamedMap | None, name: str, opened: int, origin: Origin) -> NamedMap:
    """Read what stands between a map's braces; the first of them is taken. `before` is what was said of the map already."""
    known = before or NamedMap(name, (), (), origin=origin)
    block = _Block(f"the map {name}", known.key, known.data, known.flags, known.size, known.timeout, mappings=known.elements)
    _read(cursor, block, opened)
    return NamedMap(name, block.key, block.data, block.flags, block.size, block.timeout, block.mappings, known.origin)


def _read(cursor: Cursor, block: _Block, opened: int) -> None:
    while True:
        cursor.skip_separators()
        if cursor.accept("}"):
            return
        if not cursor.here:
            cursor.not_closed(opened, block.what)
            return
        start = cursor.at
        reader = _LINES.get(cursor.take(), _other)
        try:
            reader(cursor, block)
        except ValueError as error:
            cursor.refuse(start, error)
            cursor.at = start
            cursor.skip_rule()


def words(cursor: Cursor) -> set[str]:
    """Read words between commas."""
    found = {cursor.word()}
    while cursor.accept(","):
        found.add(cursor.word())
    return found


def _type(cursor: Cursor, block: _Block) -> None:
    block.key = _types(cursor, cursor.word)
    if cursor.accept(":"):
        block.data = _types(cursor, cursor.word)


def _typeof(cursor: Cursor, block: _Block) -> None:
    block.key = _typed(cursor)
    if cursor.accept(":"):
        block.data = ("verdict",) if cursor.accept("verdict") else _typed(cursor)


def _types(cursor: Cursor, read: Callable[[], str]) -> tuple[str, ...]:
    found = [read()]
    while cursor.accept("."):
        found.append(read())
    return tuple(found)


def _typed(cursor: Cursor) -> tuple[str, ...]:
    return tuple(each or INTEGER for each in types_of(expression(cursor)))


def _flags(cursor: Cursor, block: _Block) -> None:
    block.flags |= words(cursor)


def _size(cursor: Cursor, block: _Block) -> None:
    block.size = number(cursor.word())


def _timeout(cursor: Cursor, block: _Block) -> None:
    block.timeout = seconds(cursor.word())


def _counter(cursor: Cursor, block: _Block) -> None:
    block.counter = True
    while cursor.here in ("packets", "bytes"):
        cursor.at += 2


def _elements(cursor: Cursor, block: _Block) -> None:
    cursor.accept("=")
    start = cursor.at
    if "dynamic" in block.flags:
        cursor.skip_rule()
        return
    found = contents(cursor, block.key, block.data, block.what, block.ends)
    if found is None:
        cursor.at = start
        cursor.skip_rule()
        block.elements = block.mappings = None
    elif block.data:
        block.mappings = None if block.mappings is None else (*block.mappings, *found[1])
    else:
        block.elements = None if block.elements is None else (*block.elements, *found[0])


Contents = tuple[list[Element], list[tuple[Element, _Data]]]


def contents(
    cursor: Cursor, key: tuple[str, ...], data: tuple[str, ...], what: str, ends: list[Ending] | None = None
) -> Contents | None:
    """Read the elements of a set or a map; None, and noted, when they are not understood."""
    start = cursor.at
    try:
        if not key:
            raise NotUnderstoodError("elements of a type that is not known")
        return ([], mappings(cursor, key, data)) if data else (elements(cursor, key, ends), [])
    except ValueError as error:
        cursor.assume(start, what, f"anything may be in it: {error}")
        return None


def _skipped(cursor: Cursor, _: _Block) -> None:
    cursor.skip_rule()


def _stateful(cursor: Cursor, block: _Block) -> None:
    """Take a set whose elements carry a limit: whether one matches depends on what came before."""
    cursor.assume(cursor.at - 1, block.what, "anything may be in it: its elements match or not by what came before")
    block.elements = block.mappings = None
    cursor.skip_rule()


def _other(cursor: Cursor, block: _Block) -> None:
    cursor.at -= 1
    raise NotUnderstoodError(f"{cursor.here!r} has no meaning in {block.what}")


_LINES: dict[str, Callable[[Cursor, _Block], None]] = {
    "type": _type,
    "typeof": _typeof,
    "flags": _flags,
    "size": _size,
    "timeout": _timeout,
    "counter": _counter,
    "elements": _elements,
    # How long it is kept in memory, and how: no packet's way depends on it.
    **dict.fromkeys(("gc-interval", "policy", "auto-merge", "comment", "last"), _skipped),
    **dict.fromkeys(("limit", "quota", "ct"), _stateful),
}

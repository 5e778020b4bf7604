"""Users and groups that rules call by their names. Which number a name has, only the machine knows that loads the rules."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.model.ruleset import Match, Meta, Ruleset, SetRef, Table, VerdictMap

_KEYS = {"skuid": "uid", "skgid": "gid"}


def names_in(ruleset: Ruleset) -> tuple[str, ...]:
    """Return every user and group that is named."""
    return tuple(sorted({name for table in ruleset.tables for key in _KEYS for name in accounts(table, key)}))


def accounts(table: Table, key: str) -> Iterator[str]:
    """Yield the names that a table's rules and sets compare a sender's user (`skuid`) or group (`skgid`) with.

    What stands beside them in a concatenation is among them, such as a device's name.
    """
    for statement in table.statements():
        match statement:
            case Match(left, right) if _loads(left, key):
                yield from _strings(right)
            case VerdictMap(left, source) if _loads(left, key):
                yield from _strings(tuple(element for element, _ in getattr(source, "elements", None) or ()))
            case _:
                pass
    for each in table.sets:
        yield from _strings(each.elements) if _KEYS[key] in each.key else ()
    for entry in table.maps:
        yield from _strings(tuple(element for element, _ in entry.elements or ())) if _KEYS[key] in entry.key else ()


def _loads(left: object, key: str) -> bool:
    return left == Meta(key) or any(_loads(each, key) for each in getattr(left, "parts", ()))


def _strings(node: object) -> Iterator[str]:
    if type(node) is str:
        yield node
    elif isinstance(node, tuple):
        for each in node:
            yield from _strings(each)
    elif not isinstance(node, SetRef):
        for each in getattr(node, "__dataclass_fields__", ()):
            yield from _strings(getattr(node, each))

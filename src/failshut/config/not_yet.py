"""What the policy file can say and this version can't enforce yet. Refused, never ignored; a row goes when its feature comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from failshut.config.locate import Path

_ANY = object()


@dataclass(frozen=True, slots=True)
class NotYet:
    """A part of the schema that is refused: `path` ('*' any tunnel, '#' any index), the refused `value`, and what to do instead."""

    path: tuple[str, ...]
    what: str
    help: str
    value: Any = _ANY


NOT_YET: tuple[NotYet, ...] = (NotYet(("backend", "use"), "the iptables backend", 'use = "nftables"', "iptables"),)


def refused(tree: dict[str, Any]) -> Iterator[tuple[Path, NotYet]]:
    """Yield each place of `tree` that this version can't enforce."""
    for row in NOT_YET:
        for path, value in _matches(tree, row.path, ()):
            if row.value is _ANY or row.value == value:
                yield path, row


def _matches(node: Any, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    if not pattern:
        yield path, node
        return
    step, rest = pattern[0], pattern[1:]
    children: list[tuple[str | int, Any]] = []
    if isinstance(node, list) and step == "#":
        children = list(enumerate(node))
    elif isinstance(node, dict) and step != "#":
        children = [(name, child) for name, child in node.items() if step in ("*", name)]
    for name, child in children:
        yield from _matches(child, rest, (*path, name))

"""What a ruleset's parts say of each other: jumps to chains and lookups in sets that are not there, chains in a circle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from failshut.model.finding import Code, Finding, Place
from failshut.model.ruleset import Assign, Chain, Jump, Match, Nat, ObjectRef, Rule, Ruleset, SetRef, Table, VerdictMap

_MOST = 100
_NAMING = VerdictMap | Assign | Nat | ObjectRef


def broken_links(ruleset: Ruleset) -> tuple[Finding, ...]:
    """Return an error for every jump and lookup that leads nowhere, and for every circle that is reached; a hundred at most."""
    return tuple(each for table in ruleset.tables for each in _of_table(table))[:_MOST]


def _of_table(table: Table) -> Iterator[Finding]:
    chains = {each.name for each in table.chains}
    sets = {each.name for each in table.sets} | {each.name for each in table.maps}
    calls: dict[str, list[tuple[str, Rule]]] = {each.name: [] for each in table.chains}
    where = f"table {table.family} {table.name}"
    called_by_maps = [data.target for each in table.maps for _, data in each.elements or () if isinstance(data, Jump)]
    for chain in table.chains:
        for rule in chain.rules:
            jumps, references = names_in(rule)
            calls[chain.name] += [(each, rule) for each in jumps if each in chains]
            for name in jumps:
                if name not in chains:
                    yield _finding(Code.RULES_NO_TARGET, f"there is no chain {name} in {where}", rule)
            for name in references:
                if name not in sets:
                    yield _finding(Code.RULES_NO_TARGET, f"there is no set or map {name} in {where}", rule)
                calls[chain.name] += [(each, rule) for each in _targets(table, name) if each in chains]
    for name in called_by_maps:
        if name not in chains:
            yield Finding(Code.RULES_NO_TARGET, f"there is no chain {name} in {where}", Place(_file(table.chains)))
    # A circle that no base chain leads to is loaded (nft_table_validate), and no packet goes round in it.
    for rule, name in _circles(calls, [each.name for each in table.chains if each.base]):
        yield _finding(Code.RULES_LOOP, f"this leads back to chain {name} of {where}: the kernel refuses a circle", rule)


def _targets(table: Table, name: str) -> list[str]:
    return [data.target for each in table.maps if each.name == name for _, data in each.elements or () if isinstance(data, Jump)]


def _file(chains: tuple[Chain, ...]) -> str:
    return next((each.origin.file for each in chains if each.origin), "")


def _finding(code: Code, message: str, rule: Rule) -> Finding:
    origin = rule.origin
    place = Place(origin.file, origin.line, 1) if origin else Place("")
    return Finding(code, message, place, source=origin.text if origin else "")


def names_in(rule: Rule) -> tuple[list[str], list[str]]:
    """Return the chains that a rule may go to, and the sets and maps that it asks."""
    jumps: list[str] = []
    references: list[str] = []
    for each in rule.statements:
        if isinstance(each, Jump):
            jumps.append(each.target)
        elif isinstance(each, Match):
            # Most of a ruleset is of these, and nothing of theirs names anything but the right side.
            if isinstance(each.right, SetRef):
                references.append(each.right.name)
        elif isinstance(each, _NAMING):
            _collect(each, jumps, references)
    return jumps, references


def _collect(value: Any, jumps: list[str], references: list[str]) -> None:
    if isinstance(value, SetRef):
        references.append(value.name)
    elif isinstance(value, Jump):
        jumps.append(value.target)
    elif isinstance(value, tuple):
        for each in value:
            if isinstance(each, tuple) or is_dataclass(each):
                _collect(each, jumps, references)
    elif is_dataclass(value):
        for each in fields(value):
            _collect(getattr(value, each.name), jumps, references)


def _circles(calls: dict[str, list[tuple[str, Rule]]], starts: list[str]) -> Iterator[tuple[Rule, str]]:
    done: set[str] = set()
    for start in starts:
        if start in done:
            continue
        # A stack of its own: chains may follow one another further than Python's own goes.
        path, within = [(start, iter(calls[start]))], {start}
        while path:
            name, rest = path[-1]
            for target, rule in rest:
                if target in within:
                    yield rule, target
                elif target not in done:
                    path.append((target, iter(calls[target])))
                    within.add(target)
                    break
            else:
                path.pop()
                within.discard(name)
                done.add(name)

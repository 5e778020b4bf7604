"""Ruleset → the text that `nft -f` loads in one transaction.

The form is what makes a load safe (docs/adr/0001): every table first as a skeleton whose chains exist and drop, then `flush table`,
then the rules. Replacing a table (`delete table`) leaks while the transaction commits, and a file cut after it would leave the
machine open; cut anywhere, this text leaves chains that drop everything. Over a lock that is known only the chains that change are
flushed: such a text is no file, and nft gets all of it or nothing (`host.run`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace

from failshut.emit.nft_expressions import RESERVED, UnsupportedError, data_text, element_text, name_text, quotable
from failshut.emit.nft_statements import rule_text, statement_text
from failshut.model.ruleset import Base, Chain, Flowtable, NamedMap, NamedSet, Object, Ruleset, Table

__all__ = [
    "RESERVED",
    "UnsupportedError",
    "emit",
    "emit_by_device",
    "rule_text",
    "stale_chains",
    "stale_sets",
    "table_text",
    "without_set",
]

_NOTHING = Ruleset()


def emit(ruleset: Ruleset, *, over: Ruleset = _NOTHING) -> str:
    """Return the text of one transaction that makes the kernel's tables of these names equal to `ruleset`.

    `over` is what the kernel holds, where that is known: a chain that is as it shall be is not touched, and one that is not wanted,
    or with another hook, priority or device, is deleted; so is a set. Raises `UnsupportedError` for what nft can't say.
    """
    known = over.canonical()
    same = {(table.family, table.name): set(_same(table, known)) for table in ruleset.canonical().tables}
    changed = [
        replace(table, chains=tuple(each for each in table.chains if each.name not in same[table.family, table.name]))
        for table in ruleset.tables
    ]
    blocks = [
        *(line for held in over.tables for line in _emptied(held, ruleset, same.get((held.family, held.name), ()))),
        *map(_skeleton, changed),
        *(f"flush table {each.family} {each.name}\n" for each in changed if over.table(each.family, each.name) is None),
        *map(table_text, changed),
    ]
    return "\n".join(blocks)


def stale_chains(held: Table, wanted: Ruleset) -> tuple[Chain, ...]:
    """Return the chains of a kernel's table that are not wanted, or are wanted with another hook, priority or device."""
    goal = wanted.table(held.family, held.name)
    successors = ((each, goal.chain(each.name) if goal else None) for each in held.chains)
    return tuple(each for each, successor in successors if successor is None or successor.base != each.base)


def stale_sets(held: Table, wanted: Ruleset) -> tuple[NamedSet, ...]:
    """Return the sets of a kernel's table that are not wanted, or are wanted of another kind: `flush table` leaves them there."""
    goal = wanted.table(held.family, held.name)
    kept = {_kind(each) for each in goal.sets} if goal else set()
    return tuple(each for each in held.sets if _kind(each) not in kept)


def without_set(table: Table, named: NamedSet) -> str:
    """Return what takes a set away that may be there: declared first, so that it can be deleted either way."""
    declared = replace(table, chains=(), counters=(), sets=(replace(named, elements=()),), maps=(), flowtables=(), objects=())
    return f"{table_text(declared)}delete set {table.family} {table.name} {name_text(named.name)}"


def emit_by_device(ruleset: Ruleset) -> str:
    """Return the same tables for a machine on which some devices may be missing when the text is loaded.

    What follows a line `# device NAME` belongs to that device alone: whoever loads the text leaves it out while there is no such
    device. No block depends on one that may be left out.
    """
    devices = [(table, chain) for table in ruleset.tables for chain in table.chains if chain.base and chain.base.device]
    common = [
        replace(table, chains=tuple(each for each in table.chains if (table, each) not in devices)) for table in ruleset.tables
    ]
    own = [
        f"# device {chain.base.device}\n{table_text(replace(table, chains=(chain,), sets=(), counters=()))}"
        for table, chain in devices
        if chain.base
    ]
    return "\n".join([emit(Ruleset(tuple(common))), *own])


def table_text(table: Table) -> str:
    """Return one table as `nft list table` would write it: what a person reads, and what two rulesets are compared by."""
    parts = [
        *(f"\tcounter {name_text(each)} {{ }}\n" for each in table.counters),
        *(_object_text(each) for each in table.objects),
        *(_set_text(each) for each in table.sets),
        *(_map_text(each) for each in table.maps),
        *(_flowtable_text(each) for each in table.flowtables),
        *(_chain_text(each, with_rules=True) for each in table.chains),
    ]
    return _block(table, parts)


def _skeleton(table: Table) -> str:
    return _block(table, [_chain_text(each, with_rules=False) for each in table.chains if each.base])


def _same(table: Table, over: Ruleset) -> Iterator[str]:
    """Yield the names of the chains that the kernel holds as they shall be."""
    held = over.table(table.family, table.name)
    names = {each.name for each in table.sets}
    if held and any(each.name in names for each in stale_sets(held, Ruleset((table,)))):
        # Made anew, of another kind: nothing may refer to it meanwhile.
        return
    for each in table.chains:
        known = held.chain(each.name) if held else None
        # What was read and not understood has no text, and is never the same.
        with suppress(UnsupportedError):
            if known and _chain_text(known, with_rules=True) == _chain_text(each, with_rules=True):
                yield each.name


def _emptied(held: Table, wanted: Ruleset, same: Collection[str]) -> Iterator[str]:
    """Yield what empties the kernel's chains that change, then takes out what goes: nothing refers to it by then."""
    where = f"{held.family} {held.name}"
    if not same:
        yield f"flush table {where}\n"
    else:
        yield from (f"flush chain {where} {name_text(each.name)}\n" for each in held.chains if each.name not in same)
    yield from (f"delete chain {where} {name_text(each.name)}\n" for each in stale_chains(held, wanted))
    yield from (f"delete set {where} {name_text(each.name)}\n" for each in stale_sets(held, wanted))


def _kind(named: NamedSet) -> str:
    return _set_text(replace(named, elements=()))


def _block(table: Table, parts: list[str]) -> str:
    body = "\n".join(parts)
    flags = f"\tflags {','.join(sorted(table.flags))}\n" if table.flags else ""
    return f"table {table.family} {name_text(table.name)} {{\n{flags}{body}}}\n"


def _set_text(named: NamedSet) -> str:
    lines = [f"type {' . '.join(named.key)}", *_traits(named)]
    if named.counter:
        lines.insert(-1 if named.timeout else len(lines), "counter")
    if named.elements is None:
        raise UnsupportedError(f"what is in the set {named.name} is not known")
    lines += _elements([element_text(each, None) for each in named.elements])
    return _named("set", named.name, lines)


def _map_text(named: NamedMap) -> str:
    if named.elements is None:
        raise UnsupportedError(f"what is in the map {named.name} is not known")
    lines = [f"type {' . '.join(named.key)} : {' . '.join(named.data)}", *_traits(named)]
    lines += _elements([f"{element_text(each, None)} : {data_text(data)}" for each, data in named.elements])
    return _named("map", named.name, lines)


def _traits(named: NamedSet | NamedMap) -> Iterator[str]:
    if named.size:
        yield f"size {named.size}"
    if named.flags:
        yield f"flags {','.join(sorted(named.flags))}"
    if named.timeout:
        yield f"timeout {named.timeout}s"


def _elements(elements: list[str]) -> list[str]:
    return [f"elements = {{ {', '.join(elements)} }}"] if elements else []


def _object_text(named: Object) -> str:
    if named.statement is None:
        raise UnsupportedError(f"what the {named.kind} {named.name} does is not known")
    return _named(named.kind, named.name, [statement_text(named.statement).removeprefix(f"{named.kind} ")])


def _flowtable_text(named: Flowtable) -> str:
    devices = ", ".join(f'"{quotable(each)}"' for each in named.devices)
    return _named("flowtable", named.name, [f"hook ingress priority {named.priority}", f"devices = {{ {devices} }}"])


def _named(kind: str, name: str, lines: list[str]) -> str:
    return f"\t{kind} {name_text(name)} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _chain_text(chain: Chain, *, with_rules: bool) -> str:
    lines = [_base_text(chain.base)] if chain.base else []
    if chain.flags:
        lines.append(f"\t\tflags {','.join(sorted(chain.flags))};")
    if with_rules:
        lines += [f"\t\t{rule_text(each)}" for each in chain.rules]
    return f"\tchain {name_text(chain.name)} {{\n" + "".join(line + "\n" for line in lines) + "\t}\n"


def _base_text(base: Base) -> str:
    device = f' device "{quotable(base.device)}"' if base.device else ""
    return f"\t\ttype {base.type} hook {base.hook}{device} priority {base.priority}; policy {base.policy};"

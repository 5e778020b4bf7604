"""Ruleset → the text that `nft -f` loads in one transaction.

The form is what makes a load safe (docs/adr/0001): every table first as a skeleton whose chains exist and drop, then `flush table`,
then the rules. Replacing a table (`delete table`) leaks while the transaction commits, and a file cut after it would leave the
machine open; cut anywhere, this text leaves chains that drop everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from failshut.emit.nft_expressions import RESERVED, UnsupportedError, data_text, element_text, name_text, quotable
from failshut.emit.nft_statements import rule_text, statement_text
from failshut.model.ruleset import Base, Chain, Flowtable, NamedMap, NamedSet, Object, Ruleset, Table

__all__ = ["RESERVED", "UnsupportedError", "emit", "emit_by_device", "rule_text", "table_text"]


def emit(ruleset: Ruleset, *, stale: Iterable[tuple[Table, Chain | NamedSet]] = ()) -> str:
    """Return the text of one transaction that makes the kernel's tables of these names equal to `ruleset`.

    `stale` are chains and sets that the kernel holds and `ruleset` does not, or not of that kind: they are emptied and deleted in
    the same transaction. Raises `UnsupportedError` for what nft can't say.
    """
    blocks = [
        *_drop_stale(tuple(stale)),
        *(_skeleton(table) for table in ruleset.tables),
        *(f"flush table {table.family} {table.name}\n" for table in ruleset.tables),
        *(table_text(table) for table in ruleset.tables),
    ]
    return "\n".join(blocks)


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


def _drop_stale(stale: tuple[tuple[Table, Chain | NamedSet], ...]) -> Iterator[str]:
    for table in dict.fromkeys(table for table, _ in stale):
        yield f"flush table {table.family} {table.name}\n"
    for table, part in stale:
        kind = "chain" if isinstance(part, Chain) else "set"
        yield f"delete {kind} {table.family} {table.name} {name_text(part.name)}\n"


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

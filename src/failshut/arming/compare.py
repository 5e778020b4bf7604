"""The kernel's rules beside the wanted ones: a diff that a person reads, and the chains that stand in the way."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from failshut.emit.nft import UnsupportedError, table_text
from failshut.model.ruleset import Chain, Family, Ruleset, Table


def canonical_text(ruleset: Ruleset) -> str:
    """Return the ruleset's one text: equal exactly for rulesets that the kernel treats alike.

    What was read and not understood stands in it as a line that no compiled ruleset can hold, so that it is always a difference.
    """
    return "\n".join(_table_text(table) for table in ruleset.canonical().tables)


def difference(actual: str, wanted: str) -> tuple[str, ...]:
    """Return a unified diff from the kernel's canonical text to the wanted one; empty when they are equal."""
    return tuple(difflib.unified_diff(actual.splitlines(), wanted.splitlines(), "kernel", "policy", lineterm="", n=2))


def stale_chains(actual: Ruleset, wanted: Ruleset) -> Iterator[tuple[Table, Chain]]:
    """Yield the kernel's chains that are not wanted, or are wanted with another hook, priority or device.

    Base chains first: a chain that is still jumped to can't be deleted, and after the flush nothing jumps.
    """
    for table in actual.tables:
        goal = wanted.table(table.family, table.name)
        for chain in table.chains:
            successor = goal.chain(chain.name) if goal else None
            if successor is None or successor.base != chain.base:
                yield table, chain


def guarded_devices(ruleset: Ruleset) -> tuple[str, ...]:
    """Return the devices that a chain of the layer under IP hangs on."""
    egress = [table for table in ruleset.tables if table.family is Family.NETDEV]
    return tuple(chain.base.device for table in egress for chain in table.chains if chain.base and chain.base.device)


def _table_text(table: Table) -> str:
    try:
        return table_text(table)
    except UnsupportedError as error:
        return f"table {table.family} {table.name}: {error}"

"""One ruleset of several files, or of several listings of one kernel.

nft lists all of nf_tables, iptables-save says what iptables wrote into it. nft shows iptables' own matches as `xt`, without their
parameters; a table is taken from iptables-save where that listed it whole, and from nft otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from failshut.model.ruleset import Engine, Ruleset, Table, Unknown
from failshut.read.reading import Reading


def together(readings: Sequence[Reading]) -> Reading:
    """Return several files as one machine's ruleset, with all that was found in them.

    What nft lists of a table that iptables-save lists too is the same table, and taken once.
    """
    tables = [table for each in readings for table in each.ruleset.tables]
    twice = listed_twice(tables)
    return with_remarks_of(readings, Ruleset(tuple(each for each in tables if each not in twice)))


def listed_twice(tables: Sequence[Table]) -> list[Table]:
    """Return those of nft's tables that iptables-save lists too, chain for chain: nft can't say all of their matches."""
    saved = {(each.family, each.name): each for each in tables if each.engine is Engine.IPTABLES_NFT and not _is_partial(each)}
    found = []
    for each in tables:
        same = saved.get((each.family, each.name)) if each.engine is Engine.NFT else None
        if same and {chain.name for chain in each.chains} <= {chain.name for chain in same.chains}:
            found.append(each)
    return found


def with_remarks_of(readings: Sequence[Reading], ruleset: Ruleset) -> Reading:
    """Return `ruleset`, made of these readings, with what was found in them."""
    findings = tuple(finding for each in readings for finding in each.findings)
    return Reading(ruleset, findings, tuple(made for each in readings for made in each.approximations))


def joined(listed: Ruleset, saved: Sequence[Ruleset]) -> Ruleset:
    """Return the tables of an nft listing and of iptables-save and ip6tables-save of the same kernel, each once."""
    from_save = [table for each in saved for table in each.tables]
    whole = [each for each in from_save if each.engine is Engine.IPTABLES_LEGACY or not _is_partial(each)]
    names = {(each.family, each.name) for each in whole if each.engine is not Engine.IPTABLES_LEGACY}
    others = [each for each in listed.tables if (each.family, each.name) not in names]
    known = names | {(each.family, each.name) for each in others}
    # Partial and in no listing: what was not listed stays unknown.
    rest = [each for each in from_save if each not in whole and (each.family, each.name) not in known]
    return Ruleset((*others, *whole, *rest))


def _is_partial(table: Table) -> bool:
    """Whether iptables-save said that it could not list the table: its reader then stands in with chains that may do anything."""
    return any(
        isinstance(statement, Unknown)
        for chain in table.chains
        if chain.name.endswith("(not listed)")
        for rule in chain.rules
        for statement in rule.statements
    )

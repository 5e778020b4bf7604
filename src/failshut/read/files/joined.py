"""One ruleset of several files, or of several listings of one kernel.

nft lists all of nf_tables, iptables-save says what iptables wrote into it. nft shows iptables' own matches as `xt`, without their
parameters; a table is taken from iptables-save where that listed it whole, and from nft otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from failshut.model.ruleset import (
    Binary,
    Chain,
    Concat,
    Engine,
    Match,
    Meta,
    Payload,
    Rule,
    Ruleset,
    Table,
    Unknown,
    UnknownMatch,
    Update,
    VerdictMap,
)
from failshut.read.reading import Reading


def together(readings: Sequence[Reading]) -> Reading:
    """Return several files as one machine's ruleset, with all that was found in them.

    What nft lists of a table that iptables-save lists too is the same table, and taken once.
    """
    tables = [table for each in readings for table in each.ruleset.tables]
    twice = {id(each) for each in said_twice(tables)}
    return with_remarks_of(readings, Ruleset(tuple(each for each in tables if id(each) not in twice)))


def said_twice(tables: Sequence[Table]) -> list[Table]:
    """Return, of each table that both nft and iptables-save list, the listing that is not to be believed."""
    return [saved if _better(listed, saved) is listed else listed for listed, saved in _pairs(tables)]


def _pairs(tables: Sequence[Table]) -> list[tuple[Table, Table]]:
    """Return nft's tables with the same of iptables-save, where all of its chains are known to both."""
    saved = {(each.family, each.name): each for each in tables if each.engine is Engine.IPTABLES_NFT and not _is_partial(each)}
    listed = [each for each in tables if each.engine is Engine.NFT and (each.family, each.name) in saved]
    pairs = [(each, saved[each.family, each.name]) for each in listed]
    return [each for each in pairs if {chain.name for chain in each[0].chains} <= {chain.name for chain in each[1].chains}]


def _better(listed: Table, saved: Table) -> Table:
    """Return which of two listings of one table is to be believed.

    Nft can't say all of iptables' matches. Iptables-save leaves out what it does not know of nft's own rules, such as a lookup in
    a set, without a word, or breaks off: where a rule has less in it than nft says, the table is not iptables' own.
    """
    lines = {each.name: _by_line(each) for each in saved.chains}
    for chain in listed.chains:
        known = lines.get(chain.name, [])
        if len(known) != len(chain.rules) or not all(map(_says_as_much, known, chain.rules)):
            return listed
    return saved


def _by_line(chain: Chain) -> list[list[Rule]]:
    """Return a saved chain's rules, those of one line together: a line may make several."""
    return [list(rules) for _, rules in groupby(chain.rules, key=lambda each: each.origin.line if each.origin else 0)]


def _says_as_much(saved: list[Rule], listed: Rule) -> bool:
    if any(isinstance(each, VerdictMap | Update) for each in listed.statements):
        return False
    if any(isinstance(each, Unknown | UnknownMatch) for rule in (listed, *saved) for each in rule.statements):
        # What nft can't say is iptables'; and what is not understood may be anything.
        return True
    return _asked(listed.statements) <= {field for each in saved for field in _asked(each.statements)}


def _asked(statements: Sequence[object]) -> set[object]:
    """Return what the matches of a rule ask for, whatever it is compared with; a port is one of any protocol's."""
    found: set[object] = set()
    for each in statements:
        left: object = each.left if isinstance(each, Match) else None
        while isinstance(left, Binary):
            left = left.left
        for part in left.parts if isinstance(left, Concat) else (left,):
            match part:
                case Meta("iif" | "oif" as name):
                    found.add(Meta(f"{name}name"))
                case Meta("nfproto" | "l4proto" | "protocol") | Payload("ip" | "ip6", "protocol" | "nexthdr") | None:
                    # Said beside the fields of a protocol, or not.
                    pass
                case Payload(_, "sport" | "dport" | "length" as name) | Meta("length" as name):
                    found.add(name)
                case _:
                    found.add(part)
    return found


def with_remarks_of(readings: Sequence[Reading], ruleset: Ruleset) -> Reading:
    """Return `ruleset`, made of these readings, with what was found in them.

    What was approximated in a listing of a table that another listing says better concerns nobody.
    """
    findings = tuple(finding for each in readings for finding in each.findings)
    kept = {id(each) for each in ruleset.tables}
    others = [table for each in readings for table in each.ruleset.tables if id(table) not in kept]
    gone = _lines(others) - _lines(ruleset.tables)
    made = [made for each in readings for made in each.approximations]
    return Reading(ruleset, findings, tuple(each for each in made if (each.place.file, each.place.line) not in gone))


def _lines(tables: Sequence[Table]) -> set[tuple[str, int]]:
    """Return where the rules of some tables stand: file and line."""
    rules = (rule for table in tables for chain in table.chains for rule in chain.rules)
    return {(each.origin.file, each.origin.line) for each in rules if each.origin}


def joined(listed: Ruleset, saved: Sequence[Ruleset]) -> Ruleset:
    """Return the tables of an nft listing and of iptables-save and ip6tables-save of the same kernel, each once."""
    from_save = [table for each in saved for table in each.tables]
    distrusted = {id(each) for each in said_twice([*listed.tables, *from_save])}
    from_save = [each for each in from_save if id(each) not in distrusted]
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

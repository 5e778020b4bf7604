"""The kernel's nftables, from the two listings that nft gives: JSON for the rules, text for what its JSON loses.

Measured with nft 1.0.6: JSON prints a dormant (switched-off) table's flags as the release's name, and leaves out the devices of
netdev chains, that a set is dynamic, and at which level a control group is meant. A reader that trusts JSON alone takes a
switched-off lock for a live one.
"""

from __future__ import annotations

from dataclasses import replace

from failshut.model.ruleset import Chain, Match, NamedSet, Rule, Ruleset, Socket, Statement, Table
from failshut.read import nft_json
from failshut.read.nft_text import read_text


def read(json_listing: str, text_listing: str) -> Ruleset:
    """Return the ruleset of `nft -j list …` and `nft list …` of the same tables. Raises ValueError for text that is neither."""
    listed = {(each.family, each.name): each for each in read_text(text_listing, "nft list").ruleset.tables}
    return Ruleset(tuple(_joined(each, listed.get((each.family, each.name))) for each in nft_json.decode(json_listing).tables))


def _joined(table: Table, listed: Table | None) -> Table:
    if listed is None:
        return table
    flags = {each.name: each.flags for each in listed.sets}
    chains = {each.name: each for each in listed.chains}
    return replace(
        table,
        flags=listed.flags,
        sets=tuple(_with_flags(each, flags.get(each.name, frozenset())) for each in table.sets),
        chains=tuple(_with_levels(_with_device(each, chains.get(each.name)), chains.get(each.name)) for each in table.chains),
    )


def _with_flags(named: NamedSet, flags: frozenset[str]) -> NamedSet:
    """Return a set with the flags that the text gives; a dynamic one's elements are the kernel's business."""
    return replace(named, flags=flags, elements=() if "dynamic" in flags else named.elements)


def _with_device(chain: Chain, listed: Chain | None) -> Chain:
    if not chain.base or not listed or not listed.base or not listed.base.device:
        return chain
    return replace(chain, base=replace(chain.base, device=listed.base.device))


def _with_levels(chain: Chain, listed: Chain | None) -> Chain:
    if not listed or len(listed.rules) != len(chain.rules):
        return chain
    return replace(chain, rules=tuple(map(_with_levels_of, chain.rules, listed.rules)))


def _with_levels_of(rule: Rule, listed: Rule) -> Rule:
    if len(rule.statements) != len(listed.statements):
        return rule
    return replace(rule, statements=tuple(map(_with_level, rule.statements, listed.statements)))


def _with_level(statement: Statement, listed: Statement) -> Statement:
    match statement, listed:
        case Match(left=Socket(key="cgroupv2")), Match(left=Socket(key="cgroupv2", level=level)):
            return replace(statement, left=Socket("cgroupv2", level))
    return statement

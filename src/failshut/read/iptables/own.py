"""What of an iptables-save is ours: the chains of our name, and the jumps to them from the kernel's own chains."""

from __future__ import annotations

from dataclasses import replace

from failshut.model.iptables import PREFIX, Standing, built_in
from failshut.model.ruleset import Chain, Engine, Jump, Rule, Ruleset, Table


def own(ruleset: Ruleset) -> Ruleset:
    """Return our chains, and of the kernel's chains only the jumps to ours. Where ours come behind another rule, that one stays.

    A rule of another's before ours may accept a packet that ours would refuse: it is no part of the lock, and a difference from it.
    """
    tables = (replace(each, chains=tuple(_own_chains(each)), engine=Engine.IPTABLES_NFT) for each in ruleset.tables)
    return Ruleset(tuple(each for each in tables if each.chains))


def standing(ruleset: Ruleset) -> Standing:
    """Return the names of our chains and the jumps to them, by table, for one family."""
    chains: dict[str, tuple[str, ...]] = {}
    jumps: dict[str, tuple[tuple[str, str], ...]] = {}
    for table in ruleset.tables:
        if mine := tuple(each.name for each in table.chains if each.name.startswith(PREFIX)):
            chains[table.name] = mine
        to_mine = ((chain.name, target) for chain in table.chains for rule in chain.rules if (target := _ours(chain, rule)))
        if found := tuple(to_mine):
            jumps[table.name] = found
    return Standing(chains, jumps)


def _own_chains(table: Table) -> list[Chain]:
    kept = []
    for chain in table.chains:
        if chain.name.startswith(PREFIX):
            kept.append(replace(chain, origin=None))
        elif chain.name in built_in(table.name) and (rules := _until_ours_end(chain)):
            kept.append(replace(chain, rules=rules, origin=None))
    return kept


def _until_ours_end(chain: Chain) -> tuple[Rule, ...]:
    """Return the chain's rules up to the last jump to one of ours; without such a jump none."""
    last = max((index for index, rule in enumerate(chain.rules) if _ours(chain, rule)), default=-1)
    return chain.rules[: last + 1]


def _ours(chain: Chain, rule: Rule) -> str:
    """Return which of our chains a rule of the kernel's chain always jumps to; empty when to none."""
    match rule.statements:
        case (Jump(target, goto=False),) if target.startswith(PREFIX) and not chain.name.startswith(PREFIX):
            return target
        case _:
            return ""

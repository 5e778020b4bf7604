"""Locks with one mistake each: a rule deleted, one of its conditions taken away, or the rule put after its successor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from failshut.audit.answer.result import Answer, Result
from failshut.audit.prove import audit
from failshut.audit.world import World
from failshut.model.ruleset import Chain, Match, Rule, Ruleset, Table

# A limiter is a condition too, but of how many, which no proof over single packets speaks of.
_CONDITIONS = (Match,)


def mutants(ruleset: Ruleset) -> Iterator[tuple[str, Ruleset]]:
    """Every lock that differs in one rule, and what was done to it."""
    for table in ruleset.tables:
        for chain in table.chains:
            for what, rules in _mutated(chain.rules):
                name = f"{table.family} {chain.name}: {what}"
                yield name, _with(ruleset, table, replace(chain, rules=rules))


def _mutated(rules: tuple[Rule, ...]) -> Iterator[tuple[str, tuple[Rule, ...]]]:
    for index, rule in enumerate(rules):
        text = rule.origin.text if rule.origin else str(index)
        yield f"delete `{text}`", rules[:index] + rules[index + 1 :]
        for position, statement in enumerate(rule.statements):
            if isinstance(statement, _CONDITIONS):
                left = rule.statements[:position] + rule.statements[position + 1 :]
                yield (
                    f"widen `{text}` by its condition {position + 1}",
                    (*rules[:index], replace(rule, statements=left), *rules[index + 1 :]),
                )
        if index + 1 < len(rules):
            yield f"move `{text}` down", (*rules[:index], rules[index + 1], rule, *rules[index + 2 :])


def _with(ruleset: Ruleset, table: Table, chain: Chain) -> Ruleset:
    chains = tuple(chain if each.name == chain.name else each for each in table.chains)
    return Ruleset(tuple(replace(table, chains=chains) if each is table else each for each in ruleset.tables))


def is_noticed(mutant: Ruleset, world: World) -> bool:
    """Whether the audit finds anything that does not hold."""
    results: tuple[Result, ...] = audit(mutant, world)
    return any(each.answer not in (Answer.PROVED, Answer.WORKS) for each in results)

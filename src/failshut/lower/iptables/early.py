"""What iptables must ask besides, because its last place that may refuse comes before sources are translated."""

from __future__ import annotations

from dataclasses import replace

from failshut.lower.forwarding import client_rules
from failshut.lower.rules import TRANSLATED, rule
from failshut.model.policy import Policy
from failshut.model.ruleset import Chain, ChainType, Nat, Table, Verdict


def judged_early(lock: Table, policy: Policy) -> Table:
    """Return the lock with a rule that keeps translated connections off the underlay, where the lock itself translates any.

    What is judged there is the source before, and what leaves would have another. Answers to routed clients come before it: they
    are translated back.
    """
    if not any(isinstance(each, Nat) for each in _translating(lock)):
        return lock
    return replace(lock, chains=tuple(_with_rule(each, policy) if each.name == "underlay" else each for each in lock.chains))


def _translating(lock: Table) -> list[object]:
    chains = (each for each in lock.chains if each.base and each.base.type is ChainType.NAT)
    return [statement for chain in chains for rule_ in chain.rules for statement in rule_.statements]


def _with_rule(chain: Chain, policy: Policy) -> Chain:
    first = tuple(client_rules(policy))
    others = tuple(each for each in chain.rules if each not in first)
    return replace(chain, rules=(*first, rule("translated", *TRANSLATED, Verdict.RETURN), *others))

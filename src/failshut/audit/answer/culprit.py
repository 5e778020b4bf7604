"""Which rule let a packet go, and whether any rule refuses one."""

from __future__ import annotations

from failshut.audit.concrete.fate import Fate, Step
from failshut.model.ruleset import Assign, ChainType, Counter, Hook, Jump, Log, Match, Reject, Rule, Ruleset, Verdict


def culprit(fate: Fate) -> Step | None:
    """Return the step that let the packet go: where others are refused, not where everything passes anyway."""
    accepted = [each for each in fate.steps if each.accepted]
    filters = [each for each in accepted if each.stop.base.type is not ChainType.NAT and each.stop.hook is not Hook.PREROUTING]
    refusing = [each for each in filters if _refuses(each)]
    for candidates in (
        [each for each in refusing if each.rule is not None],
        refusing,
        [each for each in filters if each.rule is not None],
        filters,
        accepted,
    ):
        if candidates:
            return candidates[0]
    return None


def _refuses(step: Step) -> bool:
    if step.stop.base.policy is Verdict.DROP:
        return True
    return any(_is_refusal(rule) for chain in step.stop.table.chains for rule in chain.rules if chain.name == step.stop.chain.name)


def refuses_nothing(ruleset: Ruleset) -> bool:
    """Whether there is neither a policy nor a rule that refuses anything, as on a machine without a packet filter."""
    chains = [chain for table in ruleset.tables for chain in table.chains]
    policies = (each.base.policy for each in chains if each.base)
    return Verdict.DROP not in policies and not any(_may_refuse(rule) for each in chains for rule in each.rules)


def _may_refuse(rule: Rule) -> bool:
    return not all(isinstance(each, Match | Counter | Log | Jump | Assign) or each is Verdict.ACCEPT for each in rule.statements)


def _is_refusal(rule: Rule) -> bool:
    return any(each is Verdict.DROP or isinstance(each, Reject) for each in rule.statements)

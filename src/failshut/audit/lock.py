"""The lock before it is loaded: whether it lets out what its policy does not allow, whatever its sets will hold."""

from __future__ import annotations

from failshut.audit.answer.explain import explain
from failshut.audit.answer.result import Answer, Result
from failshut.audit.prove import Auditor, Progress
from failshut.audit.question.properties import PROPERTIES
from failshut.audit.world.allowed import world_of
from failshut.audit.world.granted import Granted, as_anything
from failshut.model.host import HostFacts
from failshut.model.lock import LOCK_NAME
from failshut.model.policy import Policy
from failshut.model.ruleset import Engine, Ruleset

# Every other leak is a part of these.
_ASKED = ("policy", "forwarded", "transit", "below-ip")
# Of the packets that are found for one question.
_MOST_SHOWN = 3


def objections(ruleset: Ruleset, policy: Policy, host: HostFacts, *, under_ip: bool, progress: Progress) -> tuple[Result, ...]:
    """Return what of the lock in `ruleset` is not proved; nothing is a proof. Raises NotUnderstoodError.

    Without `under_ip` the lock has no layer under IP, and is not asked about it.
    """
    own = Ruleset(tuple(each for each in ruleset.tables if each.name == LOCK_NAME or each.engine is not Engine.NFT))
    auditor = Auditor(as_anything(own, policy), world_of(policy, host, open_now=Granted()))
    asked = [(each, family) for each in PROPERTIES if each.name in _ASKED for family in each.families]
    found = []
    for done, (question, family) in enumerate(asked):
        if question.name == "below-ip" and not under_ip:
            continue
        progress(question.name, done, len(asked))
        result = auditor.ask(question, family)
        if result is not None and result.answer is not Answer.PROVED:
            found.append(result)
    progress("", len(asked), len(asked))
    return tuple(found)


def in_words(results: tuple[Result, ...]) -> tuple[str, ...]:
    """Return the packets that leave, each with the rule that lets it, or what it depends on."""
    lines = []
    for result in results:
        for witness in result.witnesses[:_MOST_SHOWN]:
            words = explain(result, witness)
            lines.append(f"{words.packet}, by {words.rule}")
            lines += [f"  depends on {made.where}: {made.text}" for made in witness.depends]
    return tuple(lines)

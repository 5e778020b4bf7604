"""Output as two chains: iptables routes anew in mangle, and there nothing can be rejected."""

from __future__ import annotations

from dataclasses import replace

from failshut.lower.lock import LAST, refusing_rules, rerouting_rules
from failshut.lower.transport import carrying_rules
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.ruleset import Base, Chain, ChainType, Family, Hook, Ruleset, Table, Verdict


def rerouted_apart(lock: Ruleset, policy: Policy, facts: HostFacts) -> Ruleset:
    """Return the lock with a chain `reroute` before `output`, where there is anything to route anew."""
    carrying, rerouting = tuple(carrying_rules(policy, facts)), tuple(rerouting_rules(policy, facts))
    if not rerouting:
        return lock
    first = Chain("reroute", (*carrying, *rerouting), Base(ChainType.ROUTE, Hook.OUTPUT, LAST - 1, Verdict.ACCEPT))
    then = (*carrying, *refusing_rules(policy, facts))

    def apart(table: Table) -> Table:
        chains = (
            part for each in table.chains for part in ((first, replace(each, rules=then)) if each.name == "output" else (each,))
        )
        return replace(table, chains=tuple(chains))

    return Ruleset(tuple(apart(each) if each.family is Family.INET else each for each in lock.tables))

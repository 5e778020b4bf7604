"""The lock as iptables can say it: the same rules, for two families, in chains of our own that the kernel's chains jump to first.

What is compiled for nftables is the source, so that both backends mean the same: here its sets become rules, its hooks tables, and
its verdicts ways through chains (`flow`). What iptables has no word for is left out by name (`unsaid`), and nothing else is.
"""

from __future__ import annotations

from failshut.lower import lower
from failshut.lower.iptables.early import judged_early
from failshut.lower.iptables.flow import Flow
from failshut.lower.iptables.places import HOOKED
from failshut.lower.iptables.rerouted import rerouted_apart
from failshut.lower.iptables.unsaid import Unsaid, left_out, without_unsaid
from failshut.model.host import HostFacts
from failshut.model.iptables import base
from failshut.model.policy import Policy
from failshut.model.ruleset import Chain, Engine, Family, Jump, Rule, Ruleset, Table, Verdict

__all__ = ["Unsaid", "left_out", "lower_iptables"]

_VERSIONS = {4: Family.IP, 6: Family.IP6}
# In the order in which they are loaded: the choke point first.
TABLES = ("mangle", "filter", "raw", "nat")


def lower_iptables(policy: Policy, facts: HostFacts) -> Ruleset:
    """Return the lock for `policy` as tables of both families. The kernel's own chains hold nothing but the jumps to ours."""
    lock = judged_early(without_unsaid(rerouted_apart(lower(policy, facts), policy, facts), facts), policy)
    tables = [_table(name, family, lock, version) for version, family in _VERSIONS.items() for name in TABLES]
    return Ruleset(tuple(each for each in tables if each.chains))


def _table(name: str, family: Family, lock: Table, version: int) -> Table:
    chains: list[Chain] = []
    jumps: dict[str, list[Rule]] = {}
    for nft_chain, place in HOOKED.items():
        source = lock.chain(nft_chain)
        if place.table != name or source is None:
            continue
        found = Flow(lock, version, place).compiled(source)
        if found:
            chains += found
            jumps.setdefault(place.chain, []).append(Rule((Jump(place.own),)))
    hooks = [Chain(builtin, tuple(rules), base(name, builtin, Verdict.ACCEPT)) for builtin, rules in jumps.items()]
    return Table(family, name, (*hooks, *chains), engine=Engine.IPTABLES_NFT)

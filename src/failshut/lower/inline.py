"""The lock as a tunnel's own config can bring it along: without the layer under IP, and without what is filled while it stands."""

from __future__ import annotations

from dataclasses import replace

from failshut.lower import lower
from failshut.lower.iptables import lower_iptables
from failshut.lower.iptables.unsaid import without_unsaid
from failshut.model.host import HostFacts
from failshut.model.inline import MARK, TABLE, TUNNEL, Tool
from failshut.model.policy import Policy
from failshut.model.ruleset import Ruleset
from failshut.model.units import InterfaceName


def lower_inline(policy: Policy, facts: HostFacts, tool: Tool, tunnel: InterfaceName | None = None) -> Ruleset:
    """Return the lock with `TUNNEL` and `MARK` for the name and the mark of `tunnel`, the policy's first if none is said."""
    chosen = tunnel or policy.tunnels[0].interface
    policy, facts = _renamed(policy, chosen), _known(facts, chosen)
    if tool is Tool.IPTABLES:
        return _terse(lower_iptables(policy, facts))
    return _terse(Ruleset((replace(without_unsaid(lower(policy, facts), facts), name=TABLE),)))


def _terse(ruleset: Ruleset) -> Ruleset:
    """Return the same rules without their comments: wg-quick's time grows with the square of a line's length."""
    return Ruleset(
        tuple(
            replace(
                table,
                chains=tuple(replace(each, rules=tuple(replace(rule, comment="") for rule in each.rules)) for each in table.chains),
            )
            for table in ruleset.tables
        )
    )


def _renamed(policy: Policy, tunnel: InterfaceName) -> Policy:
    """Return the policy with what stands for the tunnel's name and mark."""
    tunnels = (
        replace(each, interface=TUNNEL, fwmark=MARK)
        if each.interface == tunnel
        else replace(each, through=TUNNEL if each.through == tunnel else each.through)
        for each in policy.tunnels
    )
    return replace(policy, tunnels=tuple(tunnels))


def _known(facts: HostFacts, tunnel: InterfaceName) -> HostFacts:
    return replace(facts, tunnels={TUNNEL if name == tunnel else name: live for name, live in facts.tunnels.items()})

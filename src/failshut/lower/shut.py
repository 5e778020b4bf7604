"""The lock of last resort: loopback works, and nothing else leaves or comes in. And the guard's, behind the real one."""

from __future__ import annotations

from failshut.lower.egress import chain_name
from failshut.lower.forwarding import to_bridge_rules
from failshut.lower.lock import LAST, LOOPBACK_IN, LOOPBACK_OUT
from failshut.lower.rules import META_MARK, OIFNAME, any_of, is_, rule
from failshut.model.host import HostFacts
from failshut.model.lock import GUARD_NAME, LOCK_NAME
from failshut.model.policy import Policy
from failshut.model.ruleset import Base, Chain, ChainType, Family, Hook, Rule, Ruleset, Table, Verdict
from failshut.model.units import InterfaceName

# After the lock's own chain. A chain of the same priority that is registered later would come before it.
_AFTER_THE_LOCK = LAST + 1
_DROP = rule("everything", Verdict.DROP)
_OWNED = frozenset({"owner"})


def everything() -> Ruleset:
    """Return the lock that drops everything: for a boot that finds no other."""
    hooks = (
        ("input", Hook.INPUT, 0, LOOPBACK_IN),
        ("output", Hook.OUTPUT, LAST, LOOPBACK_OUT),
        ("postrouting", Hook.POSTROUTING, LAST, LOOPBACK_OUT),
    )
    chains = (
        *(Chain(name, (loopback, _DROP), Base(ChainType.FILTER, hook, at, Verdict.DROP)) for name, hook, at, loopback in hooks),
        Chain("forward", (_DROP,), Base(ChainType.FILTER, Hook.FORWARD, 0, Verdict.DROP)),
    )
    return Ruleset((Table(Family.INET, LOCK_NAME, chains),))


def guard(policy: Policy, facts: HostFacts) -> Ruleset:
    """Return the tables that a program of ours owns, so that no other can flush them.

    They pass what the lock stamped and what is bound for a tunnel. While the lock stands they change nothing; when it is flushed
    nothing is stamped, and they hold until it is back.
    """
    tunnels = any_of(str(each) for each in policy.open_interfaces)
    stamped = rule("stamped", is_(META_MARK, facts.stamp), Verdict.ACCEPT)
    postrouting = Chain(
        "postrouting",
        (
            stamped,
            rule("tunnel", is_(OIFNAME, tunnels), Verdict.ACCEPT),
            LOOPBACK_OUT,
            *to_bridge_rules(policy, facts),
            rule("shut", Verdict.DROP),
        ),
        Base(ChainType.FILTER, Hook.POSTROUTING, _AFTER_THE_LOCK, Verdict.DROP),
    )
    tables = [Table(Family.INET, GUARD_NAME, (postrouting,), flags=_OWNED)]
    if facts.egress and facts.underlay:
        devices = tuple(_device_chain(device, stamped) for device in facts.underlay)
        tables.append(Table(Family.NETDEV, GUARD_NAME, devices, flags=_OWNED))
    return Ruleset(tuple(tables))


def guard_everything() -> Ruleset:
    """Return the guard of a machine that has no whole lock: it passes loopback, and nothing else."""
    base = Base(ChainType.FILTER, Hook.POSTROUTING, _AFTER_THE_LOCK, Verdict.DROP)
    chain = Chain("postrouting", (LOOPBACK_OUT, _DROP), base)
    return Ruleset((Table(Family.INET, GUARD_NAME, (chain,), flags=_OWNED),))


def _device_chain(device: InterfaceName, stamped: Rule) -> Chain:
    # Priority 1: after the lock's own layer, which stamps what it lets through.
    base = Base(ChainType.FILTER, Hook.EGRESS, 1, Verdict.DROP, device)
    return Chain(chain_name(device), (stamped, rule("shut", Verdict.DROP)), base)

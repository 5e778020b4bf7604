"""What rules say of a device's kind: one of a VPN's own kinds is a tunnel, whatever it is called, and no underlay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from failshut.audit.world import World
from failshut.model.ruleset import AnySet, Chain, Match, Meta, Op, Rule, Ruleset, Statement, UnknownMatch

# rtnl_link_ops of the kernel's, and OpenVPN's (6.16). A device of PPP or of a bridge may be the uplink.
_OF_TUNNELS = frozenset({"wireguard", "tun", "ovpn", "xfrm", "vti", "vti6"})
_SIDES = {Meta("iifkind"): Meta("iifname"), Meta("oifkind"): Meta("oifname")}


def by_kind(ruleset: Ruleset, world: World) -> Ruleset:
    """Return the rules, with what they ask of a VPN's kind asked of the world's tunnels: which of them is of it, is not known.

    A device that is none of these is not of that kind: were it, it would be a tunnel. What asks for any other kind stays.
    """
    if not any(map(_asks, ruleset.statements())):
        return ruleset
    return Ruleset(tuple(replace(each, chains=tuple(_chain(one, world) for one in each.chains)) for each in ruleset.tables))


def _asks(statement: Statement) -> bool:
    if not isinstance(statement, Match) or statement.op is not Op.EQ or statement.left not in _SIDES:
        return False
    said = statement.right.elements if isinstance(statement.right, AnySet) else (statement.right,)
    return all(each in _OF_TUNNELS for each in said)


def _chain(chain: Chain, world: World) -> Chain:
    return replace(chain, rules=tuple(_rule(each, world) if any(map(_asks, each.statements)) else each for each in chain.rules))


def _rule(rule: Rule, world: World) -> Rule:
    return replace(rule, statements=tuple(made for each in rule.statements for made in _said(each, world)))


def _said(statement: Statement, world: World) -> Iterator[Statement]:
    if isinstance(statement, Match) and _asks(statement):
        tunnels = world.tunnels
        yield Match(_SIDES[statement.left], AnySet(tunnels) if len(tunnels) > 1 else tunnels[0])  # type: ignore[index] # as it was asked
        yield UnknownMatch("which devices are of this kind is not in the rules")
    else:
        yield statement

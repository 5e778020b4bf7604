"""IPsec without a device: what it takes on its way out is encrypted and goes through the hooks again, as another packet."""

from __future__ import annotations

from dataclasses import replace

from failshut.audit.netfilter.fields import ENCRYPTED
from failshut.audit.netfilter.route import is_straight
from failshut.audit.predicate import FieldIn, Predicate, among, either
from failshut.audit.world import OIF, World
from failshut.model.ruleset import Chain, Match, Rt, Rule, Ruleset, Statement, UnknownMatch


def in_the_clear(world: World) -> Predicate:
    """Return that IPsec does not take the packet, or that it leaves by a tunnel's own device. For rules that ask."""
    return either(FieldIn(ENCRYPTED, 1, (0,)), among(OIF, world.tunnels))


def as_it_leaves(ruleset: Ruleset) -> Ruleset:
    """Return the rules, with what they ask of IPsec as unknown where a later rule may change the answer.

    It is asked anew when a packet is translated or re-routed (nf_xfrm_me_harder, ip_route_me_harder).
    """
    if is_straight(ruleset) or not asks(ruleset):
        return ruleset
    tables = (replace(each, chains=tuple(map(_unsure, each.chains))) for each in ruleset.tables)
    return Ruleset(tuple(tables))


def asks(ruleset: Ruleset) -> bool:
    """Whether a rule asks what IPsec does with a packet on its way out."""
    rules = (rule for table in ruleset.tables for chain in table.chains for rule in chain.rules)
    return any(_is_asked(each) for rule in rules for each in rule.statements)


def _is_asked(statement: Statement) -> bool:
    return isinstance(statement, Match) and statement.left == Rt("ipsec")


def _unsure(chain: Chain) -> Chain:
    return replace(chain, rules=tuple(_rule(each) for each in chain.rules))


def _rule(rule: Rule) -> Rule:
    if not any(map(_is_asked, rule.statements)):
        return rule
    doubt = UnknownMatch("whether IPsec takes it once it was translated or re-routed")
    return replace(rule, statements=tuple(doubt if _is_asked(each) else each for each in rule.statements))

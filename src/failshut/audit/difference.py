"""Two rulesets side by side: a packet that one lets out and the other does not, both ways round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import z3

from failshut.audit.answer.culprit import culprit
from failshut.audit.answer.result import Answer, Result, Witness
from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.netfilter.route import Way, routes
from failshut.audit.predicate import All, FieldIn, Not, Predicate, among, both
from failshut.audit.question.properties import Property, Sense
from failshut.audit.question.wishes import wishes
from failshut.audit.symbolic.formula import neg
from failshut.audit.symbolic.solve import Solver, solver
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import Encoding, encode
from failshut.audit.world import OIF, World, on_underlay
from failshut.audit.world.facts import facts
from failshut.audit.world.told_apart import patterns
from failshut.model.ruleset import Ruleset

ANY = All()
WAYS = tuple((way, family) for way in (Way.OUTPUT, Way.FORWARD, Way.FRAME) for family in (4, 6))


@dataclass(frozen=True, slots=True)
class Difference:
    """`opened`: what the new ruleset lets out and the old did not; `closed`: the other way round. Empty is a proof of equality."""

    opened: tuple[Result, ...]
    closed: tuple[Result, ...]


EVERY_WAY = (*WAYS, (Way.FRAME, 0))
# As IP sees it: what is below has no words in iptables.
IP_WAYS = tuple(each for each in WAYS if each[0] is not Way.FRAME)


def difference(
    old: Ruleset, new: Ruleset, world: World, ways: tuple[tuple[Way, int], ...] = EVERY_WAY, closed_among: Predicate = ANY
) -> Difference:
    """Compare what leaves on the underlay, for each way and family; `closed_among` narrows what must not be closed."""
    names = device_names(patterns(old, world) | patterns(new, world))
    more: list[Result] = []
    less: list[Result] = []
    for way, family in ways:
        more += _only(new, old, world, (way, family, names), "opened")
        less += _only(old, new, world, (way, family, names), "closed", closed_among)
    return Difference(tuple(more), tuple(less))


def _answer(asked: Solver, answers: dict[str, bool], place: str) -> bool:
    made = asked.encoding.space.approximations.get(place)
    return made is not None and (made.benign or answers.get(place, False))


def _anywhere(world: World, family: int) -> Predicate | None:
    del family
    return on_underlay(world)


def _only(  # noqa: PLR0917 - two rulesets, a world, a way, and what is asked of them
    first: Ruleset, second: Ruleset, world: World, where: tuple[Way, int, tuple[str, ...]], name: str, also: Predicate = ANY
) -> list[Result]:
    """Return a packet that the first lets out whatever the second's order, or nothing."""
    way, family, names = where
    question = Property(name, f"{way}, IPv{family}", way, Sense.LEAK, _anywhere)
    for route in routes(first, way, family):
        asked = solver(_unhurried(encode(route, names)), facts(way, family))
        refused = [_refused_by(asked, _unhurried(encode(each, names))) for each in routes(second, way, family)]
        asked.blocked = refused
        wanted: list[Predicate] = [FieldIn("first", 1, (0,)), *wishes(world, family)]
        found = asked.packets(both(on_underlay(world), also), wanted)
        if found is not None:
            fate = evaluate(route, found.packet, partial(_answer, asked, found.answers))
            certain = found.certain and fate.leaves
            witness = Witness(way, family, found.packet, fate, culprit(fate), certain)
            made = tuple(each for each in asked.encoding.space.approximations.values() if not each.benign)
            return [Result(question, family, Answer.LEAK if certain else Answer.POSSIBLE, (witness,), made)]
    return []


def _unhurried(encoding: Encoding) -> Encoding:
    """Return the same with no limiter exhausted: when one is, is not a difference of the rules."""
    space = encoding.space
    limiters = [(each, z3.BoolVal(True)) for place, each in space.unknown.items() if space.approximations[place].benign]
    if isinstance(encoding.leaves, bool) or not limiters:
        return encoding
    return replace(encoding, leaves=z3.simplify(z3.substitute(encoding.leaves, *limiters)))


def _refused_by(asked: Solver, other: Encoding) -> z3.BoolRef | bool:
    """Return when the other ruleset holds a packet back. The packet is the same: its variables have the same names.

    What is unknown there is unknown apart from what is unknown here: its names are made others.
    """
    asked.encoding.space.limits.extend(other.space.limits)
    asked.encoding.space.know(other.space.large.values())
    for name, made in other.space.variables.items():
        asked.encoding.space.variables.setdefault(name, made)
    leaves = other.leaves
    if not isinstance(leaves, bool):
        renamed = [(each, z3.Bool(f"other {each}")) for each in other.space.unknown.values()]
        leaves = z3.substitute(leaves, *renamed) if renamed else leaves
    return neg(leaves)


def opened(old: Ruleset, new: Ruleset, world: World) -> bool:
    """Return whether the new ruleset lets anything out that the old did not; the first such packet is enough."""
    names = device_names(patterns(old, world) | patterns(new, world))
    where = ((way, family, names) for way, family in (*WAYS, (Way.FRAME, 0)))
    return any(_only(new, old, world, each, "opened") for each in where)


def opened_beyond(old: Ruleset, new: Ruleset, world: World) -> bool:
    """Return whether the new ruleset lets out what the old did not and what the policy of `world` does not allow."""
    names = device_names(patterns(old, world) | patterns(new, world))
    where = ((way, family, names) for way, family in (*WAYS, (Way.FRAME, 0)))
    return any(_only(new, old, world, each, "opened", _beyond(world, *each[:2])) for each in where)


def _beyond(world: World, way: Way, family: int) -> Predicate:
    if way is Way.FRAME:
        return both(among(OIF, world.underlay), FieldIn("mark", 32, (0,)), Not(world.frames))
    if world.allowed is None:
        return All()
    return Not(world.allowed[family]) if way is Way.OUTPUT else Not(world.forwarded)

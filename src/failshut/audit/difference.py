"""Two rulesets side by side: a packet that one lets out and the other does not, both ways round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import z3

from failshut.audit.evaluate import evaluate
from failshut.audit.predicate import FieldIn, Predicate, both
from failshut.audit.properties import Property, Sense, wishes
from failshut.audit.prove import Answer, Result, Witness, culprit
from failshut.audit.route import Way, routes
from failshut.audit.symbolic.formula import neg
from failshut.audit.symbolic.solve import Solver, solver
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import Encoding, encode
from failshut.audit.world import World, facts, on_underlay, patterns
from failshut.model.ruleset import Ruleset

WAYS = (Way.OUTPUT, Way.FORWARD)


@dataclass(frozen=True, slots=True)
class Difference:
    """`opened`: what the new ruleset lets out and the old did not; `closed`: the other way round. Empty is a proof of equality."""

    opened: tuple[Result, ...]
    closed: tuple[Result, ...]


def difference(old: Ruleset, new: Ruleset, world: World) -> Difference:
    """Compare what leaves on the underlay, for each way and family."""
    names = device_names(patterns(old, world) | patterns(new, world))
    opened, closed = [], []
    for way in WAYS:
        for family in (4, 6):
            opened += _only(new, old, world, (way, family, names), "opened")
            closed += _only(old, new, world, (way, family, names), "closed")
    return Difference(tuple(opened), tuple(closed))


def _answer(answers: dict[str, bool], place: str) -> bool:
    return answers.get(place, False)


def _anywhere(world: World, family: int) -> Predicate | None:
    del family
    return on_underlay(world)


def _only(first: Ruleset, second: Ruleset, world: World, where: tuple[Way, int, tuple[str, ...]], name: str) -> list[Result]:
    """Return a packet that the first lets out whatever the second's order, or nothing."""
    way, family, names = where
    question = Property(name, f"{way}, IPv{family}", way, Sense.LEAK, _anywhere)
    for route in routes(first, way, family):
        asked = solver(encode(route, names), facts(way, family))
        refused = [_refused_by(asked, encode(each, names)) for each in routes(second, way, family)]
        asked.blocked = refused
        wanted: list[Predicate] = [FieldIn("first", 1, (0,)), *wishes(world, family)]
        found = asked.packets(both(on_underlay(world)), wanted)
        if found is not None:
            fate = evaluate(route, found.packet, partial(_answer, found.answers))
            certain = found.certain and fate.leaves and not asked.encoding.space.unknown
            witness = Witness(way, family, found.packet, fate, culprit(fate), certain)
            made = tuple(each for each in asked.encoding.space.approximations.values() if not each.benign)
            return [Result(question, family, Answer.LEAK if certain else Answer.POSSIBLE, (witness,), made)]
    return []


def _refused_by(asked: Solver, other: Encoding) -> z3.BoolRef | bool:
    """Return when the other ruleset holds a packet back. The packet is the same: its variables have the same names.

    What is unknown there is unknown apart from what is unknown here: its names are made others.
    """
    asked.encoding.space.limits.extend(other.space.limits)
    for name, made in other.space.variables.items():
        asked.encoding.space.variables.setdefault(name, made)
    leaves = other.leaves
    if not isinstance(leaves, bool):
        renamed = [(each, z3.Bool(f"other {each}")) for each in other.space.unknown.values()]
        leaves = z3.substitute(leaves, *renamed) if renamed else leaves
    return neg(leaves)

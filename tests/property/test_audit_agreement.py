"""The two evaluators, written apart, agree: whatever the rules and the packet."""

from __future__ import annotations

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_random import rulesets
from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.netfilter.fields import IFNAME
from failshut.audit.netfilter.route import Way, routes
from failshut.audit.symbolic.formula import conj, neg
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import Encoding, condition, encode
from failshut.audit.world import World
from failshut.audit.world.facts import facts
from failshut.audit.world.told_apart import patterns


def sample(encoding: Encoding, seed: int, passing: bool | None) -> tuple[dict[str, int | str], dict[str, bool]] | None:
    """A packet that the facts allow; when `passing` is said, one that the formulas let pass, or not."""
    solver = z3.Solver()
    solver.set("random_seed", seed)
    fact = condition(encoding, facts(encoding.route.way, encoding.route.family))
    goal = conj([fact, *encoding.space.limits])
    if passing is not None:
        goal = conj([goal, encoding.leaves if passing else neg(encoding.leaves)])
    solver.add(z3.BoolVal(goal) if isinstance(goal, bool) else goal)
    if solver.check() != z3.sat:
        return None
    model = solver.model()
    packet: dict[str, int | str] = {}
    for name, (variable, kind) in encoding.space.variables.items():
        number = model.eval(variable, model_completion=True).as_long()
        packet[name] = encoding.space.names[number] if kind == IFNAME else number
    answers = {place: z3.is_true(model.eval(each, model_completion=True)) for place, each in encoding.space.unknown.items()}
    return packet, answers


@pytest.mark.parametrize("way", [Way.OUTPUT, Way.FORWARD, Way.INPUT])
@settings(max_examples=60, deadline=None)
@given(ruleset=rulesets, seed=st.integers(0, 1000))
def test_a_packet_passes_alone_exactly_when_the_formulas_say_so(way, ruleset, seed):
    """A packet that satisfies the formula is accepted by the concrete evaluator; one that refutes it is dropped."""
    names = device_names(patterns(ruleset, World(tunnels=("wg*",))))
    for route in routes(ruleset, way, 4)[:2]:
        encoding = encode(route, names)
        for passing in (True, False):
            found = sample(encoding, seed, passing)
            if found is None:
                continue
            packet, answers = found
            fate = evaluate(route, packet, lambda place, answers=answers: answers.get(place, False))
            assert fate.leaves is passing, (packet, answers, [(each.chain, each.index, each.accepted) for each in fate.steps])

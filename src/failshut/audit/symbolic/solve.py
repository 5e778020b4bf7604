"""The question to the solver: whether there is such a packet, and whether it is one whatever the unknown turns out to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import z3

from failshut.audit.netfilter.fields import IFNAME
from failshut.audit.predicate import Predicate
from failshut.audit.symbolic.formula import Bool, conj, neg
from failshut.audit.symbolic.ways import Encoding, condition

# Rounds in which a witness is asked to hold for one more of the unknown's answers.
ROUNDS = 6
# Rounds in which a large set is told piece by piece.
PATIENCE = 200


@dataclass(frozen=True, slots=True)
class Found:
    """A packet: its fields, the unknown's answers by place, and whether it passes whatever these are."""

    packet: dict[str, int | str]
    answers: dict[str, bool]
    certain: bool


@dataclass(slots=True)
class Solver:
    """One way with the facts that every packet has; questions come and go."""

    encoding: Encoding
    solver: z3.Solver
    blocked: list[Bool] = field(default_factory=list)
    # Conditions that were said before: a predicate is told by its identity, and kept so that no other gets the same.
    said: dict[int, tuple[Predicate, Bool]] = field(default_factory=dict)

    def packets(self, question: Predicate, wishes: Iterable[Predicate] = ()) -> Found | None:
        """Return a packet that leaves and fits the question, as many of the wishes as it can, or None: a proof."""
        goal = conj([self.encoding.leaves, self.says(question)])
        return self._search(goal, [self.says(each) for each in wishes])

    def says(self, predicate: Predicate) -> Bool:
        """Return a condition as this way's formula. Raises NotUnderstoodError."""
        if id(predicate) not in self.said:
            self.said[id(predicate)] = (predicate, condition(self.encoding, predicate))
        return self.said[id(predicate)][1]

    def block(self, key: tuple[str, str, int]) -> bool:
        """Ask from now on only for packets that a rule does not match. False: the rule was never looked at."""
        hits = self.encoding.chains.hits.get(key)
        if not hits:
            return False
        self.blocked += [neg(each) for each in hits]
        return True

    def unblock(self) -> None:
        """Ask for all packets again."""
        self.blocked.clear()

    def _search(self, goal: Bool, wishes: list[Bool]) -> Found | None:
        new = conj([goal, *self.blocked])
        if new is False:
            return None
        self.solver.push()
        try:
            self._add(new)
            self._limits()
            model = self._model()
            if model is None:
                return None
            wished = self._wished(model, wishes)
            unknown = self._adversarial()
            if not unknown or self._is_certain(goal, wished, unknown):
                return self._found(wished, certain=True)
            return self._insist(goal, wished, unknown, wishes)
        finally:
            self.solver.pop()

    def _wished(self, model: z3.ModelRef, wishes: list[Bool]) -> z3.ModelRef:
        """Return the model of a packet with as many wishes as can be had. What is asked for later need not have them."""
        self.solver.push()
        try:
            return self._wish(model, wishes)
        finally:
            self.solver.pop()

    def _add(self, part: Bool) -> None:
        self.solver.add(z3.BoolVal(part) if isinstance(part, bool) else part)

    def _limits(self) -> None:
        # Variables are made while conditions are built; their limits are few and may be said again.
        for each in self.encoding.space.limits:
            self.solver.add(each)

    def _model(self) -> z3.ModelRef | None:
        """Ask the solver, again and again until it has no large set wrong."""
        sets, rounds = self.encoding.space.large.values(), 0
        while self.solver.check() == z3.sat:
            model = self.solver.model()
            wrong = [(each, told) for each in sets if (told := each.objection(model)) is not None]
            if not wrong:
                return model
            for each, told in wrong:
                self.solver.add(told if rounds < PATIENCE else each.spelled_out())
            rounds += 1
        return None

    def _wish(self, model: z3.ModelRef, wishes: list[Bool]) -> z3.ModelRef:
        """Keep each wish that can be had beside the ones before it; return the last model."""
        for each in wishes:
            if not isinstance(each, bool) and z3.is_true(model.eval(each, model_completion=True)):
                self._add(each)
                continue
            self.solver.push()
            self._add(each)
            granted = self._model()
            self.solver.pop()
            if granted is not None:
                model = granted
                self._add(each)
        return model

    def _adversarial(self) -> dict[str, z3.BoolRef]:
        """Return by its place what may be anything, and is nothing that every packet meets now and then."""
        space = self.encoding.space
        return {place: each for place, each in space.unknown.items() if not space.approximations[place].benign}

    def _is_certain(self, goal: Bool, model: z3.ModelRef, unknown: Mapping[str, z3.BoolRef]) -> bool:
        return self._refutation(goal, model, unknown) is None

    def _refutation(self, goal: Bool, model: z3.ModelRef, unknown: Mapping[str, z3.BoolRef]) -> z3.ModelRef | None:
        """Return answers of the unknown with which this packet does not pass, or None."""
        if isinstance(goal, bool):
            return None
        space = self.encoding.space
        pairs: list[tuple[z3.ExprRef, z3.ExprRef]] = [
            (each, model.eval(each, model_completion=True)) for each, _ in space.variables.values()
        ]
        pairs += [(each, model.eval(each, model_completion=True)) for place, each in space.unknown.items() if place not in unknown]
        pairs += [(each.held, z3.BoolVal(each.truth(model))) for each in space.large.values()]
        other = z3.Solver()
        other.add(z3.Not(z3.substitute(goal, *pairs)))
        return other.model() if other.check() == z3.sat else None

    def _insist(self, goal: Bool, model: z3.ModelRef, unknown: Mapping[str, z3.BoolRef], wishes: list[Bool]) -> Found:
        """Look for a packet that passes whatever the unknown answers; failing that, return the first, which depends on it."""
        first = self._found(model, certain=False)
        assert not isinstance(goal, bool)  # noqa: S101 - a constant goal has no unknown in it
        # With the answers under which the others did not pass, it is another rule that lets this one go.
        answers: dict[str, bool] = {}
        for _ in range(ROUNDS):
            counter = self._refutation(goal, model, unknown)
            if counter is None:
                wished = self._wished(model, wishes)
                model = wished if self._is_certain(goal, wished, unknown) else model
                return self._found(model, certain=True, answers=answers)
            said = {place: counter.eval(each, model_completion=True) for place, each in unknown.items()}
            answers = {place: z3.is_true(each) for place, each in said.items()}
            self.solver.add(z3.substitute(goal, *((unknown[place], each) for place, each in said.items())))
            found = self._model()
            if found is None:
                return first
            model = found
        return first

    def _found(self, model: z3.ModelRef, certain: bool, answers: Mapping[str, bool] = MappingProxyType({})) -> Found:
        space = self.encoding.space
        packet: dict[str, int | str] = {}
        for name, (variable, kind) in space.variables.items():
            value = model.eval(variable, model_completion=True)
            number = value.as_long() if isinstance(value, z3.BitVecNumRef) else 0
            packet[name] = space.names[number] if kind == IFNAME else number
        chosen = {place: z3.is_true(model.eval(each, model_completion=True)) for place, each in space.unknown.items()}
        return Found(packet, {**chosen, **answers}, certain)


def solver(encoding: Encoding, facts: Predicate) -> Solver:
    """Begin to ask about a way; `facts` hold for every packet."""
    made = z3.SolverFor("QF_FD")
    fact = condition(encoding, facts)
    made.add(z3.BoolVal(fact) if isinstance(fact, bool) else fact)
    return Solver(encoding, made)

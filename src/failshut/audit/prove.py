"""The audit: every question to every family, each answered by a proof, by a packet, or by what it depends on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from failshut.audit.answer.culprit import culprit
from failshut.audit.answer.result import Answer, Result, Witness
from failshut.audit.approximation import Approximation
from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.concrete.fate import holds
from failshut.audit.copies import offloads, stray_copies
from failshut.audit.encrypted import as_it_leaves, in_the_clear
from failshut.audit.kinds import by_kind
from failshut.audit.netfilter.fields import ENCRYPTED
from failshut.audit.netfilter.route import Route, Way, is_straight, routes
from failshut.audit.netfilter.words import NotUnderstoodError
from failshut.audit.predicate import Predicate, both
from failshut.audit.question.properties import PROPERTIES, Property, Sense
from failshut.audit.question.wishes import wishes
from failshut.audit.symbolic.outcome import rule_key
from failshut.audit.symbolic.solve import Found, Solver, solver
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import Encoding, encode
from failshut.audit.world import World
from failshut.audit.world.facts import OWN_SOURCE, ends, facts, from_own_address, long_enough, opening_flags, sent_whole, unanswered
from failshut.audit.world.told_apart import patterns
from failshut.model.ruleset import Assign, Hook, Meta, Ruleset, Unknown

MOST_WITNESSES = 5
# Each wish of a witness is another question; of so many rules it gets one witness, which need not be pretty.
LARGE, PLAIN = 20_000, 12
# How the fields of a connection's own addresses and ports are called.
_ENDS = ("ct original ", "ct reply ")
_ORDER = Approximation("", "which of the chains of one priority was made first", "")
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Auditor:
    """A ruleset with its ways, each worked out when the first question about it comes."""

    ruleset: Ruleset
    world: World
    _solvers: dict[tuple[Way, int], list[Solver]] = field(default_factory=dict)
    _names: tuple[str, ...] = ()
    _wishes: dict[int, tuple[Predicate, ...]] = field(default_factory=dict)
    _strays: tuple[Approximation, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.ruleset = by_kind(as_it_leaves(self.ruleset), self.world)
        self._strays = stray_copies(self.ruleset, self.world)

    @property
    def _is_large(self) -> bool:
        return sum(len(chain.rules) for table in self.ruleset.tables for chain in table.chains) > LARGE

    def ways(self, way: Way, family: int) -> list[Solver]:
        """Return the solvers of a way, one for each order in which the kernel may call the chains."""
        if not self._names:
            self._names = device_names(patterns(self.ruleset, self.world))
        key = (way, family)
        if key not in self._solvers:
            encodings = [encode(each, self._names) for each in routes(self.ruleset, way, family)]
            self._solvers[key] = [solver(each, self._said(each, way, family)) for each in encodings]
        return self._solvers[key]

    def _said(self, encoding: Encoding, way: Way, family: int) -> Predicate:
        outgoing = ENCRYPTED in encoding.space.variables and way in (Way.OUTPUT, Way.FORWARD)
        clear = [in_the_clear(self.world)] if outgoing and is_straight(self.ruleset) else []
        above = way is Way.OUTPUT and not any(stops for hook, stops in encoding.route.hooks if hook is Hook.EGRESS)
        sources = [each for each in OWN_SOURCE if each in encoding.space.variables and way is Way.OUTPUT and family == 4]
        # A policy is for who writes headers of IP, too.
        unprivileged = () if self.world.is_strict else (*map(from_own_address, sources), *([sent_whole()] if above else ()))
        return both(_true_of_all(encoding, way, family), *clear, *unprivileged)

    def ask(self, question: Property, family: int) -> Result | None:
        """Answer one question, or return None where it makes no sense."""
        asked = question.asks(self.world, family)
        if asked is None:
            return None
        ways = self.ways(question.way, family)
        wanted = self._wishes.setdefault(family, wishes(self.world, family)[: PLAIN if self._is_large else None])
        witnesses: list[Witness] = []
        missing = False
        for each in ways:
            most = 1 if question.sense is Sense.NEED or self._is_large else MOST_WITNESSES
            found = _witnesses(each, asked, wanted, most)
            missing |= not found
            witnesses += found
        if missing:
            witnesses = [replace(each, certain=False, depends=(*each.depends, _ORDER)) for each in witnesses]
        approximations = [
            made
            for each in ways
            for made in (*each.encoding.space.approximations.values(), *_too_many_orders(each))
            if not made.benign
        ]
        answer = _answer(question, witnesses)
        passing = (*self._strays, *(offloads(self.ruleset, self.world, family) if question.way is Way.FORWARD else ()))
        if answer is Answer.PROVED and question.sense is Sense.LEAK and passing:
            answer, approximations = Answer.POSSIBLE, [*approximations, *passing]
        unique = tuple(dict.fromkeys(approximations))
        return Result(question, family, answer, _distinct(witnesses, MOST_WITNESSES), unique)


def _true_of_all(encoding: Encoding, way: Way, family: int) -> Predicate:
    asked = encoding.space.variables
    length = [long_enough(family)] if "length" in asked and way is not Way.FRAME else []
    flags = [opening_flags()] if "tcp flags" in asked and way is not Way.FRAME else []
    asks = family and any(each.startswith(_ENDS) for each in asked) and not _rewrites_early(encoding.route)
    tuples = [ends(family, encoding.route.never)] if asks else []
    status = [unanswered()] if "ct status" in asked and family else []
    return both(facts(way, family), *length, *flags, *tuples, *status)


def _rewrites_early(route: Route) -> bool:
    """Whether a table may write into a packet before its connection is looked up, with what it is by then."""
    tables = [stop.table for _, stops in route.hooks for stop in stops if stop.early]
    statements = (each for table in tables for each in table.statements())
    return any(isinstance(each, Unknown) or (isinstance(each, Assign) and not isinstance(each.target, Meta)) for each in statements)


def _too_many_orders(asked: Solver) -> Iterable[Approximation]:
    if not asked.encoding.route.exact:
        yield Approximation("", "chains of one priority have more orders than were tried", "")


def audit(ruleset: Ruleset, world: World, progress: Progress = lambda *_: None) -> tuple[Result, ...]:
    """Ask every question. `progress` hears of each: its name, how many are done, and of how many."""
    auditor = Auditor(ruleset, world)
    asked = [(each, family) for each in PROPERTIES for family in each.families]
    results = []
    for done, (each, family) in enumerate(asked):
        progress(each.name, done, len(asked))
        if (result := auditor.ask(each, family)) is not None:
            results.append(result)
    progress("", len(asked), len(asked))
    return tuple(results)


def _answer(question: Property, witnesses: list[Witness]) -> Answer:
    certain = any(each.certain for each in witnesses)
    if question.sense is Sense.NEED:
        return Answer.WORKS if certain else Answer.POSSIBLE if witnesses else Answer.BROKEN
    return Answer.LEAK if certain else Answer.POSSIBLE if witnesses else Answer.PROVED


def _witnesses(asked: Solver, question: Predicate, wanted: Iterable[Predicate], most: int) -> list[Witness]:
    """Return packets that pass, each by another rule."""
    found: list[Witness] = []
    wanted = [each for each in wanted if _is_sayable(asked, each)]
    try:
        while len(found) < most:
            packet = asked.packets(question, wanted)
            if packet is None:
                break
            witness = _witness(asked, question, packet)
            found.append(witness)
            step = witness.culprit
            if step is None or step.rule is None or not asked.block(rule_key(step.stop.table, step.chain, step.index)):
                break
    finally:
        asked.unblock()
    return found


def _is_sayable(asked: Solver, wish: Predicate) -> bool:
    try:
        asked.says(wish)
    except NotUnderstoodError:
        return False
    return True


def _witness(asked: Solver, question: Predicate, found: Found) -> Witness:
    """Send the packet alone, as the check of the other evaluator."""
    route, space = asked.encoding.route, asked.encoding.space
    consulted: list[str] = []

    def oracle(place: str) -> bool:
        consulted.append(place)
        return found.answers.get(place, False)

    fate = evaluate(route, found.packet, oracle)
    agreed = fate.leaves and holds(question, fate)
    depends = tuple(
        made for place in dict.fromkeys(consulted) if (made := space.approximations.get(place)) is not None and not made.benign
    )
    if not agreed:
        depends = (*depends, Approximation("", "the two evaluators do not agree on this packet", ""))
    certain = found.certain and agreed
    return Witness(route.way, route.family, found.packet, fate, culprit(fate), certain, () if certain else depends)


def _distinct(witnesses: list[Witness], most: int) -> tuple[Witness, ...]:
    """Return one witness for each rule, the certain ones first."""
    kept: dict[tuple[object, ...], Witness] = {}
    for each in sorted(witnesses, key=lambda witness: not witness.certain):
        step = each.culprit
        key = (step.stop.table.name, step.stop.table.family, step.chain, step.index) if step else ()
        kept.setdefault(key, each)
    return tuple(kept.values())[:most]

"""The audit: every question to every family, each answered by a proof, by a packet, or by what it depends on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from failshut.audit.copies import offloads, stray_copies
from failshut.audit.evaluate import Fate, Step, evaluate, holds
from failshut.audit.predicate import Predicate, both
from failshut.audit.properties import PROPERTIES, Property, Sense
from failshut.audit.route import Route, Way, routes
from failshut.audit.symbolic.outcome import rule_key
from failshut.audit.symbolic.solve import Found, Solver, solver
from failshut.audit.symbolic.space import Approximation, device_names
from failshut.audit.symbolic.ways import Encoding, encode
from failshut.audit.wishes import wishes
from failshut.audit.words import NotUnderstoodError
from failshut.audit.world import World, ends, facts, long_enough, opening_flags, patterns
from failshut.model.ruleset import Assign, ChainType, Counter, Hook, Jump, Log, Match, Meta, Reject, Rule, Ruleset, Unknown, Verdict

MOST_WITNESSES = 5
# Each wish of a witness is another question; of so many rules it gets one witness, which need not be pretty.
LARGE, PLAIN = 20_000, 12
# How the fields of a connection's own addresses and ports are called.
_ENDS = ("ct original ", "ct reply ")
_ORDER = Approximation("", "which of the chains of one priority was made first", "")
Progress = Callable[[str, int, int], None]


class Answer(StrEnum):
    """`PROVED`: no such packet. `LEAK`: there is one. `POSSIBLE`: it depends. `WORKS` and `BROKEN` answer for what is needed.

    `REFUTED`: a packet was found, and when it was sent it did not leave.
    """

    PROVED = "proved"
    LEAK = "leak"
    POSSIBLE = "possible"
    REFUTED = "refuted"
    WORKS = "works"
    BROKEN = "broken"


class Outcome(StrEnum):
    """What became of a witness that was to be sent in a lab."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_REPLAYED = "not replayed"


@dataclass(frozen=True, slots=True)
class Replay:
    """A witness, sent: the first packet that was captured, how many were, and what happened in words."""

    outcome: Outcome
    captured: str = ""
    packets: int = 0
    happened: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A packet that passes: its fields, what became of it, and the rule that let it (None: a policy, or no chain at all)."""

    way: Way
    family: int
    packet: dict[str, int | str]
    fate: Fate
    culprit: Step | None
    certain: bool
    depends: tuple[Approximation, ...] = ()
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One question for one address family. `approximations` are all that were made on the way, whether or not they mattered."""

    question: Property
    family: int
    answer: Answer
    witnesses: tuple[Witness, ...] = ()
    approximations: tuple[Approximation, ...] = ()

    @property
    def is_leak(self) -> bool:
        """Whether this is a packet that leaves and must not."""
        return self.answer is Answer.LEAK and self.question.sense is Sense.LEAK

    @property
    def is_doubt(self) -> bool:
        """Whether a leak could be neither shown nor excluded."""
        return self.answer in (Answer.POSSIBLE, Answer.REFUTED) and self.question.sense is Sense.LEAK


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
            self._solvers[key] = [solver(each, _said(each, way, family)) for each in encodings]
        return self._solvers[key]

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


def _said(encoding: Encoding, way: Way, family: int) -> Predicate:
    asked = encoding.space.variables
    length = [long_enough(family)] if "length" in asked and way is not Way.FRAME else []
    flags = [opening_flags()] if "tcp flags" in asked and way is not Way.FRAME else []
    asks = family and any(each.startswith(_ENDS) for each in asked) and not _rewrites_early(encoding.route)
    tuples = [ends(family, encoding.route.never)] if asks else []
    return both(facts(way, family), *length, *flags, *tuples)


def _rewrites_early(route: Route) -> bool:
    """Whether a table may write into a packet before its connection is looked up, with what it is by then."""
    tables = [stop.table for _, stops in route.hooks for stop in stops if stop.early]
    statements = (each for table in tables for chain in table.chains for rule in chain.rules for each in rule.statements)
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


def culprit(fate: Fate) -> Step | None:
    """Return the step that let the packet go: where others are refused, not where everything passes anyway."""
    accepted = [each for each in fate.steps if each.accepted]
    filters = [each for each in accepted if each.stop.base.type is not ChainType.NAT and each.stop.hook is not Hook.PREROUTING]
    refusing = [each for each in filters if _refuses(each)]
    for candidates in (
        [each for each in refusing if each.rule is not None],
        refusing,
        [each for each in filters if each.rule is not None],
        filters,
        accepted,
    ):
        if candidates:
            return candidates[0]
    return None


def _refuses(step: Step) -> bool:
    if step.stop.base.policy is Verdict.DROP:
        return True
    return any(_is_refusal(rule) for chain in step.stop.table.chains for rule in chain.rules if chain.name == step.stop.chain.name)


def refuses_nothing(ruleset: Ruleset) -> bool:
    """Whether there is neither a policy nor a rule that refuses anything, as on a machine without a packet filter."""
    chains = [chain for table in ruleset.tables for chain in table.chains]
    policies = (each.base.policy for each in chains if each.base)
    return Verdict.DROP not in policies and not any(_may_refuse(rule) for each in chains for rule in each.rules)


def _may_refuse(rule: Rule) -> bool:
    return not all(isinstance(each, Match | Counter | Log | Jump | Assign) or each is Verdict.ACCEPT for each in rule.statements)


def _is_refusal(rule: Rule) -> bool:
    return any(each is Verdict.DROP or isinstance(each, Reject) for each in rule.statements)


def _distinct(witnesses: list[Witness], most: int) -> tuple[Witness, ...]:
    """Return one witness for each rule, the certain ones first."""
    kept: dict[tuple[object, ...], Witness] = {}
    for each in sorted(witnesses, key=lambda witness: not witness.certain):
        step = each.culprit
        key = (step.stop.table.name, step.stop.table.family, step.chain, step.index) if step else ()
        kept.setdefault(key, each)
    return tuple(kept.values())[:most]

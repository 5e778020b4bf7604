"""A drill → its page: the verdict, the lab, and for each attack what left the machine, by time, under each set of rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from failshut.drill.judgement.outcome import Outcome, RunResult, Status
from failshut.drill.judgement.tally import Tally, tally
from failshut.drill.network.plan import Plan
from failshut.drill.rules.source import RuleSource
from failshut.drill.scenario import Kind
from failshut.drill.timeline import BIN_SECONDS
from failshut.model.policy import Policy
from failshut.report import lab
from failshut.report.chart import HEIGHT, LINE, WIDTH, Chart, Scale, chart, scale_of
from failshut.report.facts import Banner, Machine
from failshut.report.page import grouped, plural, render

# Status → tone and the sign that says it without colour.
TONES: dict[Status, tuple[str, str]] = {
    Status.HELD: ("good", "✓"),
    Status.LEAKED: ("bad", "✕"),
    Status.BROKEN: ("bad", "✕"),
    Status.VOID: ("unsure", "?"),
    Status.LIMIT: ("limit", "!"),
    Status.SKIPPED: ("none", "·"),
}
_BANNERS: tuple[tuple[Status, str, str, str], ...] = (
    (Status.LEAKED, "bad", "leaked", "Packets left this machine past the tunnel, with the lock on."),
    (Status.BROKEN, "bad", "broken", "Nothing leaked, but something that must work does not."),
    (Status.VOID, "unsure", "not proven", "Nothing was seen to leak, but not every run proves something."),
    (Status.HELD, "good", "held", "Nothing left this machine that the policy does not allow."),
)
_NOTHING = (Status.VOID, "unsure", "nothing tried", "Nothing was judged.")


@dataclass(frozen=True, slots=True)
class Drilled:
    """A drill that was carried out. `themes` has each scenario's; `beside` names the other rules, if there were any."""

    policy: Policy
    plan: Plan
    outcomes: tuple[Outcome, ...]
    themes: Mapping[str, str]
    seconds: float
    beside: str = ""
    is_example: bool = False
    as_root: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """One run in its column: under which rules, its picture if there is something to draw, its sums, and what they say."""

    heading: str
    result: RunResult
    tone: str
    said: str
    chart: Chart | None
    tunnel: int
    allowed: int
    blocked: int
    is_lock: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nothing was there to block a packet."""
        return self.result.source is RuleSource.NONE

    @property
    def spoken(self) -> str:
        """The picture in words."""
        line = self.result.timeline
        return (
            f"Packets per 100 ms over {len(line.sent) * BIN_SECONDS:.1f} s; the attack begins at {line.began:.1f} s. "
            f"Sent {self.result.sent:,}: {self.tunnel:,} through the tunnel, {self.allowed:,} allowed, "
            f"{self.blocked:,} blocked, {self.result.leaked:,} leaked."
        )


@dataclass(frozen=True, slots=True)
class Card:
    """One scenario with its runs side by side."""

    outcome: Outcome
    tone: str
    sign: str
    runs: tuple[Run, ...]
    scale: Scale

    @property
    def beside(self) -> Run | None:
        """Its run under the other rules."""
        return next((each for each in self.runs if each.result.source is RuleSource.BESIDE), None)

    @property
    def name(self) -> str:
        """The scenario's name, which is its anchor too."""
        return self.outcome.scenario.name

    @property
    def title(self) -> str:
        """What is done."""
        return self.outcome.scenario.title

    @property
    def word(self) -> str:
        """Its verdict."""
        return self.outcome.word


@dataclass(frozen=True, slots=True)
class Group:
    """The cards of one theme."""

    title: str
    cards: tuple[Card, ...]

    @property
    def has_beside(self) -> bool:
        """Whether any of them was tried under the other rules."""
        return any(each.beside for each in self.cards)

    @property
    def short(self) -> str:
        """The theme in a few words."""
        return re.split(r"[:.]", self.title)[0]


def drill_page(drilled: Drilled, machine: Machine) -> str:
    """Return the page as HTML."""
    cards = [_card(each, drilled.beside) for each in drilled.outcomes]
    attacks = [each for each in cards if each.outcome.scenario.kind is Kind.ATTACK]
    counted = [each for each in attacks if each.outcome.status not in (Status.LIMIT, Status.SKIPPED)]
    works = [each for each in cards if each.outcome.scenario.kind is Kind.WORKS]
    sums = tally(drilled.outcomes)
    return render(
        "drill.html.j2",
        title=f"failshut drill: {_banner_status(drilled.outcomes)[2]}",
        banner=_banner(drilled, sums),
        sums=sums,
        drilled=drilled,
        machine=machine,
        facts=_facts(drilled, machine),
        drawings=(lab.wide(drilled.plan), lab.tall(drilled.plan)),
        described=lab.described(drilled.plan, [str(each.interface) for each in drilled.policy.tunnels]),
        attackers=lab.ATTACKERS,
        tiles=_groups(cards, drilled.themes),
        groups=_groups(counted, drilled.themes),
        works=[each for each in works if each.outcome.status is not Status.SKIPPED],
        limits=[each for each in attacks if each.outcome.status is Status.LIMIT],
        skipped=[each for each in cards if each.outcome.status is Status.SKIPPED],
        not_tried=[(each.name, probe, why) for each in cards for probe, why in sorted(each.outcome.lock.unavailable.items())],
        size=(WIDTH, HEIGHT, LINE),
    )


def _groups(cards: Sequence[Card], themes: Mapping[str, str]) -> tuple[Group, ...]:
    together = groupby(cards, lambda each: themes.get(each.name, ""))
    return tuple(Group(theme, tuple(each)) for theme, each in together)


def _banner_status(outcomes: Sequence[Outcome]) -> tuple[Status, str, str, str]:
    statuses = {each.status for each in outcomes}
    return next((each for each in _BANNERS if each[0] in statuses), _NOTHING)


def _banner(drilled: Drilled, sums: Tally) -> Banner:
    _, tone, word, sentence = _banner_status(drilled.outcomes)
    scenarios = ", ".join(f"{count:,} {each}" for each, count in sums.words.items())
    lines = [f"{plural(len(drilled.outcomes), 'scenario')} in {drilled.seconds:.0f} s: {scenarios}."]
    if sums.without is None:
        lines.append("No attack was tried without the lock: that this lab would have seen a leak is not shown.")
    if drilled.beside and sums.beside is None:
        lines.append(f"Under {drilled.beside} nothing could be judged; each attack says why.")
    if sums.limits:
        lines.append(f"Counted apart: {plural(sums.beyond, 'packet')} in {plural(sums.limits, 'known limit')}.")
    return Banner(tone, word, sentence, tuple(lines))


def _facts(drilled: Drilled, machine: Machine) -> list[tuple[str, str]]:
    policy, plan = drilled.policy, drilled.plan
    tunnels = ", ".join(str(each.interface) for each in policy.tunnels)
    rows = [
        ("Policy", "the bundled example" if drilled.is_example else policy.path),
        ("Tunnel", tunnels),
        ("Endpoints", ", ".join(str(each) for each in plan.endpoints)),
        ("Cables", ", ".join(str(each.device) for each in plan.cables)),
        ("Kernel", machine.kernel),
        ("nftables", machine.nft),
        ("Run as", "root" if drilled.as_root else "a user, in user namespaces"),
        ("Made", f"{machine.made:%Y-%m-%d %H:%M:%S %Z} by failshut {machine.version}"),
    ]
    if drilled.beside:
        rows.insert(1, ("Beside it", drilled.beside))
    return rows


def _card(outcome: Outcome, beside: str) -> Card:
    tone, sign = TONES[outcome.status]
    named = (("no lock", outcome.control, False), (beside, outcome.beside, False), ("failshut", outcome.lock, True))
    results = [(heading, result, is_lock) for heading, result, is_lock in named if result is not None]
    scale = scale_of([result.timeline for _, result, _ in results])
    return Card(outcome, tone, sign, tuple(_run(*each, scale) for each in results), scale)


def _run(heading: str, result: RunResult, is_lock: bool, scale: Scale) -> Run:
    line = result.timeline
    return Run(
        heading,
        result,
        tone=_tone(result),
        said=_said(result),
        chart=chart(line, scale) if line.sent else None,
        tunnel=sum(line.tunnel),
        allowed=sum(line.allowed),
        blocked=sum(line.blocked),
        is_lock=is_lock,
    )


def _tone(result: RunResult) -> str:
    if result.leaked:
        return "bad"
    return "none" if result.skipped or result.source is RuleSource.NONE else "unsure" if result.reason else "good"


def _said(result: RunResult) -> str:
    if result.reason:
        return "skipped" if result.skipped else "not judged"
    return f"{grouped(result.leaked)} leaked"

"""An audit → its page: every question for every family, and each packet that was found with the rule that let it go. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from failshut.audit.answer.explain import explain, replay_line, shortened
from failshut.audit.answer.result import Answer, Result, Witness
from failshut.audit.question.properties import ASSUMPTIONS, Property, Sense
from failshut.audit.world import World, endpoint_words
from failshut.audit.world.granted import opened
from failshut.model.ruleset import Origin
from failshut.read.reading import Reading
from failshut.report.facts import Banner, Machine
from failshut.report.page import plural, render

FAMILIES = {4: "IPv4", 6: "IPv6", 0: "other frames"}
# The word of a cell → its tone and the sign that says it without colour. What is not listed is in doubt.
TONES: dict[str, tuple[str, str]] = {
    "proved": ("good", "✓"),
    "works": ("good", "✓"),
    "leak": ("bad", "✕"),
    "broken": ("bad", "✕"),
    "note": ("note", "!"),
}
_DOUBT = ("unsure", "?")
_SECTIONS = {
    Sense.LEAK: ("What must not leave", "Proved for every packet there can be, or shown by one that leaves."),
    Sense.NOTE: ("What the rules do on purpose", "No leak by itself: who wrote the rules may have meant it. Worth knowing."),
    Sense.NEED: ("What must still work", "A lock that breaks the tunnel is soon switched off."),
}


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit that was carried out: of which files (none: the running kernel), what was read, what was asked, what was found."""

    files: tuple[str, ...]
    reading: Reading
    world: World
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A witness in words: the packet, the rule's place and text, why it passes, and what that depends on."""

    packet: str
    place: str
    rule: str
    why: str
    depends: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    # What became of it when it was sent; empty when it was not.
    sent: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer: question and family."""

    result: Result
    word: str
    tone: str
    sign: str
    seen: tuple[Seen, ...]

    @property
    def anchor(self) -> str:
        """Where its packets are shown."""
        return f"{self.result.question.name}-{self.result.family}"

    @property
    def family(self) -> str:
        """The family's name."""
        return FAMILIES[self.result.family]

    @property
    def is_news(self) -> bool:
        """Whether there is a packet, or the want of one, to be shown."""
        return self.tone != "good"


@dataclass(frozen=True, slots=True)
class Row:
    """One question, with a cell for each family of its section; None: it was not asked of that one."""

    question: Property
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The questions of one sense, a table."""

    title: str
    lead: str
    families: tuple[str, ...]
    rows: tuple[Row, ...]


def word_of(result: Result) -> str:
    """Return the answer's word: what the rules do on purpose is a note, whether it was shown or is only possible."""
    if result.question.sense is Sense.NOTE and result.answer in (Answer.LEAK, Answer.POSSIBLE):
        return "note"
    return result.answer.value


def audit_page(audited: Audited, machine: Machine) -> str:
    """Return the page as HTML."""
    cells = [_cell(each) for each in audited.results]
    news = sorted((each for each in cells if each.is_news), key=lambda each: list(_SECTIONS).index(each.result.question.sense))
    return render(
        "audit.html.j2",
        title=f"failshut audit: {_banner(audited, cells).word}",
        banner=_banner(audited, cells),
        machine=machine,
        subject=_subject(audited),
        facts=_facts(audited, machine),
        counts=_counts(cells),
        sections=[_section(cells, sense) for sense in _SECTIONS if any(each.result.question.sense is sense for each in cells)],
        news=[*filter(lambda each: each.tone == "bad", news), *filter(lambda each: each.tone != "bad", news)],
        approximations=_approximations(audited),
        assumptions=ASSUMPTIONS,
        findings=audited.reading.findings,
    )


def _subject(audited: Audited) -> str:
    return ", ".join(audited.files) or "the running kernel"


def _banner(audited: Audited, cells: Sequence[Cell]) -> Banner:
    counts = Counter(each.tone for each in cells)
    leaks, doubts = (sum(test(each) for each in audited.results) for test in (_is_leak, _is_doubt))
    lines = [f"{plural(len(cells), 'question')}, each asked of all packets at once."]
    if not audited.reading.is_whole:
        lines.append("The rules could not be read whole: what is proved here is proved of what was read.")
    if audited.world.is_strict:
        lines += [f"Opened for a time: {each}." for each in opened(audited.reading.ruleset)]
    if leaks:
        return Banner("bad", "leaks", "By these rules packets leave past the tunnel: one of each kind is shown.", tuple(lines))
    if not audited.reading.is_whole:
        return Banner("unsure", "not whole", "A part of the rules was not understood as rules.", tuple(lines))
    if doubts:
        return Banner("unsure", "undecided", "Whether a packet leaves depends on what rules alone can't say.", tuple(lines))
    if counts["bad"]:
        return Banner("bad", "broken", "Nothing leaks, but something that must work does not.", tuple(lines))
    return Banner("good", "proved", "No packet that there can be leaves past the tunnel by these rules.", tuple(lines))


def _is_leak(result: Result) -> bool:
    return result.is_leak


def _is_doubt(result: Result) -> bool:
    return result.is_doubt


def _counts(cells: Sequence[Cell]) -> list[tuple[str, int, str]]:
    tones = Counter(each.tone for each in cells)
    words = (("answers hold", "good"), ("leak or are broken", "bad"), ("not decided", "unsure"), ("notes", "note"))
    return [(word, tones[tone], tone if tones[tone] else "none") for word, tone in words]


def _facts(audited: Audited, machine: Machine) -> list[tuple[str, str]]:
    world = audited.world
    rows = [
        ("Rules", _subject(audited)),
        ("Tunnel", shortened(world.tunnels) or "none"),
        ("Endpoint", shortened(endpoint_words(world)) or "unknown"),
        *((("Of whom", world.alone),) if world.alone else ()),
        *((("Control group", world.cgroup),) if world.cgroup else ()),
        ("Local network", shortened(world.lan) or "unknown"),
        *((("Guests behind", shortened(world.inside)),) if world.inside else ()),
        *((("Held", f"only packets {', '.join(world.held)}"),) if world.held else ()),
        ("Judged", "by the policy" if world.is_strict else "by what the rules seem to mean, and what was said"),
        ("Made", f"{machine.made:%Y-%m-%d %H:%M:%S %Z} by failshut {machine.version}"),
    ]
    if not audited.files:
        rows += [("Kernel", machine.kernel), ("nftables", machine.nft)]
    return rows


def _section(cells: Sequence[Cell], sense: Sense) -> Section:
    asked = [each for each in cells if each.result.question.sense is sense]
    questions = dict.fromkeys(each.result.question for each in asked)
    found = {(each.result.question.name, each.result.family): each for each in asked}
    families = [each for each in FAMILIES if any(family == each for _, family in found)]
    rows = (Row(each, tuple(found.get((each.name, family)) for family in families)) for each in questions)
    title, lead = _SECTIONS[sense]
    return Section(title, lead, tuple(FAMILIES[each] for each in families), tuple(rows))


def _cell(result: Result) -> Cell:
    word = word_of(result)
    tone, sign = TONES.get(word, _DOUBT)
    return Cell(result, word, tone, sign, tuple(_seen(result, each) for each in result.witnesses))


def _seen(result: Result, witness: Witness) -> Seen:
    words = explain(result, witness)
    origin = _origin(witness)
    fields = [(name, str(value)) for name, value in sorted(witness.packet.items()) if " at " not in name]
    return Seen(
        packet=words.packet,
        place=str(origin) if origin and origin.text else "",
        rule=origin.text if origin and origin.text else words.rule,
        why=words.why,
        depends=tuple(f"{each.where}: {each.text}" if each.where else each.text for each in witness.depends),
        fields=tuple(fields),
        sent=replay_line(witness.replay) if witness.replay else "",
    )


def _origin(witness: Witness) -> Origin | None:
    step = witness.culprit
    return step.rule.origin if step is not None and step.rule is not None else None


def _approximations(audited: Audited) -> list[tuple[str, str]]:
    """Return what was not understood and what is assumed in its place, each once."""
    read = [(f"{each.place}: {each.text}", each.assumed) for each in audited.reading.approximations]
    return list(dict.fromkeys([*read, *_made(audited.results)]))


def _made(results: Iterable[Result]) -> Iterable[tuple[str, str]]:
    for result in results:
        for each in result.approximations:
            yield (f"{each.where}: {each.text}" if each.where else each.text), "may be anything"

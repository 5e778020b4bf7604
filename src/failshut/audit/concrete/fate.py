"""What becomes of a packet: the verdict, the steps in order, and whether a question is about such a packet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from failshut.audit.concrete.values import Values, compare
from failshut.audit.netfilter.route import Stop
from failshut.audit.netfilter.words import names_match
from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When
from failshut.model.ruleset import Rule

# What decides a statement that depends on more than the packet: by the place's name, whether it holds.
Oracle = Callable[[str], bool]
Packet = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Step:
    """A verdict: in which base chain, by which rule (`rule` is None for the policy) of which chain, called by which rules."""

    stop: Stop
    chain: str
    index: int
    rule: Rule | None
    accepted: bool
    calls: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a packet: `accepted` by every chain; the steps in order; what it was at last; a copy that went elsewhere."""

    accepted: bool
    steps: tuple[Step, ...]
    end: Packet
    start: Packet
    copied: bool = False

    @property
    def leaves(self) -> bool:
        """Whether the packet, or a copy of it, passed."""
        return self.accepted or self.copied


def holds(predicate: Predicate, fate: Fate) -> bool:
    """Whether a question's condition is true of a packet and of what became of it."""
    match predicate:
        case All(parts):
            return all(holds(each, fate) for each in parts)
        case Some(parts):
            return any(holds(each, fate) for each in parts)
        case Not(part):
            return not holds(part, fate)
        case FieldIn(name, _, values):
            return fate.start.get(name, 0) in values
        case DeviceIs(name, names):
            return any(names_match(each, str(fate.start.get(name, ""))) for each in names)
        case Is(match, when):
            packet = dict(fate.end) if when is When.END else {**fate.end, **fate.start, "stage": ""}
            return compare(Values(packet, None), match)

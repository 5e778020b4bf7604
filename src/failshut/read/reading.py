"""What reading a ruleset gives, whatever format it was in."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.finding import Finding, Place
from failshut.model.ruleset import Ruleset


@dataclass(frozen=True, slots=True)
class Approximation:
    """Something that was read and not understood, and what is assumed in its place: more than it can do, never less."""

    text: str
    assumed: str
    place: Place


@dataclass(frozen=True, slots=True)
class Reading:
    """The ruleset as far as it could be read. Findings are what is wrong with the text: with an error among them it isn't whole."""

    ruleset: Ruleset
    findings: tuple[Finding, ...] = ()
    approximations: tuple[Approximation, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether everything that stood in the text is in the ruleset, understood or not."""
        return not any(each.is_error for each in self.findings)

"""What a chain does with a packet, and how a rule is told from others."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.audit.symbolic.formula import Bool
from failshut.audit.symbolic.terms import Env
from failshut.model.ruleset import Table


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a chain does with a packet that enters it."""

    accept: Bool
    drop: Bool
    fall: Bool
    copied: Bool
    env: Env


def rule_key(table: Table, chain: str, index: int) -> tuple[str, str, int]:
    """Return how a rule is told from all others."""
    return f"{table.engine} {table.family} {table.name}", chain, index

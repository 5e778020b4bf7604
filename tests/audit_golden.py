"""The golden cases as an audit sees them: the text that is loaded, and the world that the policy describes."""

from __future__ import annotations

from pathlib import Path

from failshut.audit.allowed import as_granted, world_of
from failshut.audit.world import World
from failshut.model.ruleset import Ruleset
from failshut.read.nft_text import read_text
from golden_cases import load_case


def case_world(case: Path, alone: bool = True) -> World:
    return world_of(*load_case(case), alone)


def case_ruleset(case: Path) -> Ruleset:
    reading = read_text((case / "expect.nft").read_text(), "expect.nft")
    assert reading.is_whole, reading.findings
    return as_granted(reading.ruleset)

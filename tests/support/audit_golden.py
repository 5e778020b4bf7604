"""The golden cases as an audit sees them: the text that is loaded, and the world that the policy describes."""

from __future__ import annotations

from pathlib import Path

from failshut.audit.world import World
from failshut.audit.world.allowed import NOTHING_OPEN, world_of
from failshut.audit.world.granted import Granted, as_anything, as_granted
from failshut.model.ruleset import Ruleset
from failshut.read.nft.text import read_text
from golden_cases import load_case


def case_world(case: Path, alone: bool = True) -> World:
    """What the policy allows: whatever its sets hold, or, beside other tables, while they hold nothing."""
    return world_of(*load_case(case), alone, Granted() if alone else NOTHING_OPEN)


def case_ruleset(case: Path, alone: bool = True) -> Ruleset:
    reading = read_text((case / "expect.nft").read_text(), "expect.nft")
    assert reading.is_whole, reading.findings
    policy, _ = load_case(case)
    return as_anything(reading.ruleset, policy) if alone else as_granted(reading.ruleset)

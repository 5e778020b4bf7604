"""Every scenario, by theme. To add one: write its function, add it to its module's `SCENARIOS`."""

from __future__ import annotations

from failshut.drill.scenario import Scenario
from failshut.drill.scenarios import guide, routing

SCENARIOS: dict[str, Scenario] = {each.name: each for module in (guide, routing) for each in module.SCENARIOS}

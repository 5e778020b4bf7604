"""Known ratios, and which of them got worse by more than their noise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.figures import Figure, Unit

FILE = Path(__file__).with_name("baseline.json")
# What two runs of the same program differ by even so; a finding needs more than this and than the noise.
_LEAST = 0.03


def keep(figures: Iterable[Figure]) -> None:
    """Make these the known ratios; those of other parts stay."""
    known = _known() | {each.key: [round(x, 4) for x in (each.value, each.low, each.high)] for each in figures if _counts(each)}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def worse(figures: Sequence[Figure]) -> list[str]:
    """Return a line for each ratio that is worse than it was by more than half of both spreads, and more than 3 %."""
    known, lines = _known(), []
    for each in figures:
        if not _counts(each):
            continue
        if each.key not in known:
            lines.append(f"{each.key}: {each.text}, and the baseline does not know it")
            continue
        value, low, high = known[each.key]
        noise = max((high - low + each.high - each.low) / 2, value * _LEAST)
        if each.value > value + noise:
            lines.append(f"{each.key}: {value:.2f} → {each.value:.2f}, noise {noise:.2f}")
    return lines


def _counts(each: Figure) -> bool:
    return each.unit is Unit.RATIO


def _known() -> dict[str, list[float]]:
    return dict(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else {}

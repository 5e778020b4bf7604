"""What a benchmark yields: figures in tables, with the spread of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a figure counts. Ratios are the only ones that another machine may be held to; a larger one is always worse."""

    RATIO = "x"
    NANOSECONDS = "ns"
    MILLISECONDS = "ms"
    SECONDS = "s"
    MEBIBYTES = "MiB"
    PER_SECOND = "/s"
    MEGABITS = "Mbit/s"


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, and the quartiles around it."""

    table: str
    row: str
    column: str
    value: float
    unit: Unit
    low: float
    high: float

    @property
    def key(self) -> str:
        """What the baseline knows it by."""
        return f"{self.table} | {self.row} | {self.column}"

    @property
    def text(self) -> str:
        """The value as the tables say it."""
        match self.unit:
            case Unit.RATIO:
                return f"{self.value:.2f}"
            case Unit.SECONDS:
                return f"{self.value:.2f} s"
            case _:
                return f"{self.value:,.0f} {self.unit}" if self.value >= 10 else f"{self.value:.1f} {self.unit}"


def figure(table: str, row: str, column: str, measured: Iterable[float], unit: Unit) -> Figure:
    """Return the median of what was measured, and its quartiles."""
    values = sorted(measured)
    low, high = values[len(values) // 4], values[(3 * len(values)) // 4]
    return Figure(table, row, column, statistics.median(values), unit, low, high)


def ratios(measured: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Return each round's ratio: what the machine did meanwhile falls on both."""
    return [one / other for one, other in zip(measured, bare, strict=True)]

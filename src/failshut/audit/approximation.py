"""What stands in for what is not understood."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Approximation:
    """Something that was allowed to be anything. `benign`: a limiter, which some packet passes and some does not."""

    place: str
    text: str
    where: str
    benign: bool = False

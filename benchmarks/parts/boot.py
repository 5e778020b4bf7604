"""What the lock costs at boot, in a container of Debian 12."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.boot import measure as boots
from benchmarks.figures import Figure, Unit, figure

TITLE = "At boot"


def measure() -> Iterator[Figure]:
    """Yield the medians of alternating boots."""
    for name, milliseconds in boots():
        yield figure(TITLE, name, "took", [milliseconds], Unit.MILLISECONDS)

"""How long an audit of our own lock takes, and the whole drill: of that the wall clock alone, whose workers end by themselves."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from benchmarks.figures import Figure, Unit, figure
from benchmarks.parts.load import used
from benchmarks.switches import GOLDEN

TITLE = "Drill and audit"
_FAILSHUT = (sys.executable, "-m", "failshut")


def measure() -> Iterator[Figure]:
    """Yield seconds of the wall clock and of CPU."""
    for name, argv in {
        "failshut audit, the guide's lock": [*_FAILSHUT, "audit", str(GOLDEN / "guide/expect.nft")],
        "failshut drill --example": [*_FAILSHUT, "drill", "--example"],
    }.items():
        begin = time.perf_counter()
        seconds, mebibytes = used(argv)
        yield figure(TITLE, name, "wall clock", [time.perf_counter() - begin], Unit.SECONDS)
        if "audit" in argv:
            yield figure(TITLE, name, "CPU", [seconds], Unit.SECONDS)
            yield figure(TITLE, name, "memory", [mebibytes], Unit.MEBIBYTES)

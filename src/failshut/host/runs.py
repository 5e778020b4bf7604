"""How the last run of a verb ended: kept for metrics, by whoever may write it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from failshut.host.files import write_atomically

DIRECTORY = Path("/var/lib/failshut/runs")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a verb, ended `at` seconds since 1970. `leaks` are packets, or properties that an audit refuted."""

    verb: str
    at: float
    ok: bool
    leaks: int


def remember(verb: str, *, ok: bool, leaks: int) -> None:
    """Keep how a run ended; without the right to write there, nobody knows."""
    run = Run(verb, round(time.time(), 3), ok, leaks)
    with contextlib.suppress(OSError):
        write_atomically(DIRECTORY / f"{verb}.json", json.dumps(asdict(run)) + "\n")


def last_runs() -> Iterator[Run]:
    """Yield the last run of each verb; a file that can't be read is none."""
    for each in sorted(DIRECTORY.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            yield Run(**json.loads(each.read_text(encoding="utf-8")))

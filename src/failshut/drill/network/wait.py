"""Waiting on conditions, with a deadline: the lab never sleeps and hopes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, within: float, step: float = 0.005) -> bool:
    """Poll `condition` until it holds or `within` seconds have gone; return whether it held.

    Every `step` seconds at first, then ever less often, down to ten times a second: each time may cost a process.
    """
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() >= end:
            return condition()
        pace(step)
        step = max(step, min(step * 1.2, 0.1))
    return True


def pace(seconds: float) -> None:
    """Let `seconds` go by: the spacing of a traffic generator, or the length of a watched window."""
    select.select([], [], [], max(seconds, 0.0))

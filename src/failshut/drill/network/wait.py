"""Waiting on conditions, with a deadline: the lab never sleeps and hopes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, within: float, step: float = 0.005) -> bool:
    """Poll `condition` until it holds or `within` seconds have gone; return whether it held."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() >= end:
            return condition()
        pace(step)
    return True


def pace(seconds: float) -> None:
    """Let `seconds` go by: the spacing of a traffic generator, or the length of a watched window."""
    select.select([], [], [], max(seconds, 0.0))

"""Ctrl-C and SIGTERM as a question that is asked between two steps: nothing is cut in the middle, and the tunnel comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from failshut.drill.network.wait import pace

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STEP = 0.02


class StoppedError(Exception):
    """The user wants to stop."""


@dataclass(slots=True)
class Interrupt:
    """Whether the user has asked to stop; `signal` is the number, 0 before."""

    signal: int = 0

    def check(self) -> None:
        """Raise where the user has asked to stop."""
        if self.signal:
            raise StoppedError

    def pause(self, seconds: float) -> None:
        """Let `seconds` go by; raises as soon as the user asks to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            pace(min(_STEP, left))


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Note the signals instead of dying of them, until the block ends."""
    interrupt = Interrupt()

    def note(number: int, _: object) -> None:
        interrupt.signal = number

    before = {each: signal.signal(each, note) for each in _SIGNALS}
    try:
        yield interrupt
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

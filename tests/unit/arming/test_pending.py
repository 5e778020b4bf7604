"""An arming that waits to be confirmed, and the clock that it goes by."""

from __future__ import annotations

import time

from failshut.arming.armed.record import Pending


def test_a_clock_that_is_set_neither_ends_nor_lengthens_the_wait(monkeypatch):
    """systemd's timer goes on as it was: `status` must not call it overdue, nor say that hours are left."""
    pending = Pending("7", int(time.monotonic()) + 60)

    for jump in (-86400, 86400):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)

        assert 50 < pending.seconds_left() <= 61

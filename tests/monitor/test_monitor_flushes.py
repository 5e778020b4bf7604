"""Whatever flushes the packet filter, under a flood: nothing leaves, with the monitor up or killed in the middle of it.

`python -m benchmarks.flushes` does it a thousand times, and on booted machines with ufw, firewalld and Docker.
"""

from __future__ import annotations

import pytest

from flooded import Flooded
from grouped import needs_programs

pytestmark = pytest.mark.lab

TIMES = 15
FLUSHES = (
    "nft flush ruleset",
    "nft delete table inet failshut; nft delete table netdev failshut",
    "iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -F",
)


@pytest.fixture(scope="module")
def flooded():
    """An armed machine with its guard."""
    needs_programs()
    with Flooded() as private:
        private.arm()
        private.guard()
        yield private


def test_nothing_leaves_while_others_flush(flooded):
    flooded.watch_lock()

    def work() -> None:
        for each in FLUSHES:
            flooded.flush(each, TIMES)

    tried, left = flooded.under_flood(work)

    assert tried > 1000
    assert left == {}
    # What takes nothing away of the lock is no drift.
    assert flooded.state()["drifts"] >= 1
    flooded.leave_unwatched()


def test_nothing_leaves_while_others_flush_and_the_monitor_is_killed(flooded):
    def work() -> None:
        for each in FLUSHES[:2]:
            flooded.watch_lock()
            flooded.flush(each, TIMES, amid=flooded.kill_monitor)

    tried, left = flooded.under_flood(work)

    assert tried > 1000
    assert left == {}


def test_with_monitor_and_guard_stopped_the_lock_holds_until_somebody_flushes(flooded):
    """The control: the same flood is seen to leave after the same flush."""
    flooded.leave_unwatched()
    flooded.unguard()
    before = flooded.under_flood(lambda: flooded.run("sleep", "0.5"))
    after = flooded.under_flood(lambda: flooded.flush(FLUSHES[0], 1, waits=False))

    assert before[1] == {}
    assert set(after[1]) == {"udp", "packet"}

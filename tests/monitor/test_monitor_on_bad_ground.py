"""What the monitor lacks it says, and goes on with the rest; the lock is untouched."""

from __future__ import annotations

import pytest

from failshut.drill.network.wait import until
from sandbox import FAILSHUT
from watched import RUN

pytestmark = pytest.mark.lab


def test_where_run_is_full_the_lock_is_put_back_all_the_same(lab):
    """A full file system under /run/failshut: no status, no list of events, no files for the warm nft."""
    lab.must("sh", "-c", f"rm -rf {RUN} && mkdir {RUN} && mount -t tmpfs -o size=4k none {RUN} && cat /dev/zero >{RUN}/cargo || :")
    before = lab.chain()
    monitor = lab.start(*FAILSHUT, "monitor")
    try:
        assert until(lambda: "nft --interactive" in lab.must("ps", "-A", "-o", "args"), within=90)
        lab.must("nft", "insert rule inet failshut postrouting accept")
        assert until(lambda: lab.chain() == before, within=90)
        lab.must("nft", "flush", "ruleset")
        assert until(lambda: lab.chain() == before, within=90)
        assert monitor.poll() is None
    finally:
        monitor.terminate()
        monitor.communicate()
        lab.must("umount", RUN)


def test_what_cannot_be_written_is_said_once(lab):
    lab.must("sh", "-c", f"rm -rf {RUN} && mkdir {RUN} && mount -t tmpfs -o ro none {RUN}")
    try:
        lab.start_monitor()
        assert until(lambda: "nft --interactive" in lab.must("ps", "-A", "-o", "args"), within=90)
        for _ in range(3):
            before = lab.chain()
            lab.must("nft", "insert rule inet failshut postrouting accept")
            assert until(lambda chain=before: lab.chain() == chain, within=90)
        said = lab.leave_unwatched()
    finally:
        lab.must("umount", RUN)
    assert "status.json can't be written: Read-only file system" in said
    assert said.count("events.jsonl can't be written") == 1
    # Three in a row may be one to it.
    assert 1 <= said.count("put back") <= 3


def test_a_second_monitor_is_refused_and_one_without_the_right_too(watched):
    second = watched.failshut("monitor")
    assert (second.returncode, "another monitor runs already" in second.stderr) == (1, True)
    watched.leave_unwatched()
    unprivileged = watched.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", *FAILSHUT, "monitor")

    assert unprivileged.returncode == 4
    assert "sudo" in unprivileged.stderr


def test_a_disarmed_machine_is_watched_too_and_nothing_is_put_on(lab):
    lab.must(*FAILSHUT, "disarm", "--yes")
    lab.start_monitor()
    lab.await_status(lock="disarmed")
    lab.must("nft", "add", "table", "inet", "mine")
    lab.must("ip", "link", "add", "usb0", "type", "veth", "peer", "name", "usb1")
    lab.must(*FAILSHUT, "arm")

    lab.await_status(lock="armed")
    lab.await_held("usb0")
    assert lab.events("drift") == []
    lab.tidy()


def test_the_nft_that_waits_may_be_killed(watched):
    before = watched.chain()
    for number in (1, 2, 3):
        watched.must("pkill", "-KILL", "-P", str(watched.monitor), "nft")
        watched.must("nft", "flush", "ruleset")

        watched.await_event("drift", number)
        assert watched.chain() == before
    assert watched.failshut("status").returncode == 0

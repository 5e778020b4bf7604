"""What another program changes in the lock is put back at once, and recorded with what changed and by whom."""

from __future__ import annotations

import pytest

from failshut.drill.network.wait import until
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

CHANGES = {
    "flushed": ("nft flush ruleset", "the lock was removed"),
    "deleted": ("nft delete table inet failshut", "the lock was removed"),
    "under IP deleted": ("nft delete table netdev failshut", "the lock was removed"),
    "emptied": ("nft flush chain inet failshut output", "chain output: "),
    "accepting": ("nft insert rule inet failshut postrouting accept", "chain postrouting: 1 rule(s) added"),
    "under IP accepting": ("nft insert rule netdev failshut admit accept", "chain admit: + accept"),
    "a chain more": ("nft add chain inet failshut mine '{ type filter hook output priority 5; }'", "chain mine was added"),
    "a set more": ("nft add set inet failshut mine '{ type ipv4_addr; }'", "set mine was added"),
}


def lock(lab):
    """Return the lines of the lock's tables; chains that came back later are listed later."""
    script = "for family in inet arp netdev; do nft -s -t list table $family failshut; done"
    return sorted(lab.must("sh", "-ec", script).splitlines())


def test_every_change_is_put_back_and_said(watched):
    before = lock(watched)
    for number, (name, (command, what)) in enumerate(CHANGES.items(), 1):
        watched.must("sh", "-c", command)

        event = watched.await_event("drift", number)
        assert what in event["fields"]["what"], (name, event)
        assert event["fields"]["process"] == "nft"
        assert int(event["fields"]["pid"]) > 0
        assert lock(watched) == before, name
    assert watched.failshut("status").returncode == 0
    assert watched.state()["drifts"] == len(CHANGES)


def test_without_the_monitor_a_change_stays(watched):
    """The control: what is put back above stays where nobody watches; and a killed monitor takes nothing down."""
    before = watched.chain()
    watched.leave_unwatched(kill=True)
    assert watched.chain() == before

    watched.must("nft", "insert rule inet failshut postrouting accept")

    assert watched.failshut("status").returncode == 11
    watched.watch_lock()
    assert watched.chain() == before
    assert "chain postrouting: + accept" in watched.await_event("drift")["fields"]["what"]


def test_what_failshut_itself_loads_is_no_drift(watched):
    """Arming anew with another policy, the loader, and disarming: the monitor follows, and says nothing of it."""
    watched.must("sh", "/etc/failshut/load")
    watched.must("sh", "/etc/failshut/load", "link")
    watched.write("/etc/failshut/failshut.toml", '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[allow]\nndp = false\n')
    watched.must(*FAILSHUT, "arm")
    armed = watched.chain()

    watched.must("nft", "flush", "ruleset")
    watched.await_event("drift")
    assert watched.chain() == armed
    assert [each["fields"]["what"] for each in watched.events("drift")] == ["the lock was removed"]
    watched.must(*FAILSHUT, "disarm", "--yes")
    watched.await_status(lock="disarmed")
    assert watched.must("nft", "list", "tables") == ""


def test_an_allowance_is_no_drift_and_outlives_a_change_beside_it(watched):
    """Elements come and go by `allow`, `portal` and the kernel's own clock."""
    watched.must("nft", "add element inet failshut logging { ipv4 timeout 60s }")
    watched.must("nft", "insert rule inet failshut postrouting accept")
    watched.await_event("drift")

    assert "ipv4" in watched.must("nft", "list", "set", "inet", "failshut", "logging")
    assert len(watched.events("drift")) == 1


def test_a_storm_of_flushes_leaves_the_lock_whole(watched):
    armed = watched.chain()
    watched.must("sh", "-c", "for each in $(seq 100); do nft flush ruleset; done")

    assert until(lambda: watched.chain() == armed, within=90)
    watched.await_status(lock="armed")
    assert watched.failshut("status").returncode == 0
    # Said a few times, recorded each time; all in less memory than it may have.
    assert len(watched.events("drift")) >= 1
    assert watched.resident() < 60 * 1024

"""A device that comes after arming gets the layer under IP; one that is renamed or replugged too."""

from __future__ import annotations

import json

import pytest

from failshut.drill.network.wait import until
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

FRAMES = 100


def test_a_device_that_comes_later_is_held_under_ip(watched):
    watched.plug_in("usb0")
    watched.await_held("usb0")

    assert watched.frames_out("usb0") == 0
    assert watched.await_event("device")["fields"]["device"] == "usb0"
    status = watched.failshut("status")
    assert status.returncode == 0, status.stdout
    assert watched.failshut("plan", "--exit-code").returncode == 10


def test_without_the_monitor_its_frames_leave(watched):
    """The control."""
    watched.leave_unwatched()
    watched.plug_in("usb0")

    assert watched.frames_out("usb0") == FRAMES
    assert watched.failshut("status").returncode == 11


def test_a_device_that_was_renamed_is_held_and_one_that_was_replugged_too(watched):
    watched.plug_in("usb0")
    watched.await_held("usb0")
    watched.must("ip", "link", "set", "usb0", "down")
    watched.must("ip", "link", "set", "usb0", "name", "enx1")
    watched.await_held("enx1")
    watched.must("ip", "link", "set", "enx1", "up")
    assert watched.frames_out("enx1") == 0
    watched.must("ip", "link", "del", "enx1")
    watched.plug_in("usb0")
    watched.await_held("usb0")
    assert watched.frames_out("usb0") == 0

    assert watched.failshut("status").returncode == 0


def test_a_later_device_is_held_again_after_a_flush(watched):
    watched.plug_in("usb0")
    watched.await_held("usb0")
    watched.must("nft", "flush", "ruleset")
    watched.await_event("drift")

    assert watched.frames_out("usb0") == 0
    assert watched.failshut("status").returncode == 0


@pytest.mark.parametrize(
    "change", ["flush chain {}", "insert rule {} accept", "delete chain {}"], ids=["emptied", "opened", "deleted"]
)
def test_the_chain_of_a_later_device_is_put_back(watched, change):
    """It stands in no baseline. The control: without the monitor a chain that is opened or deleted stays so."""
    words = change.format("netdev failshut egress-usb0").split()
    watched.plug_in("usb0")
    watched.await_held("usb0")
    watched.must("nft", *words)
    watched.await_event("drift")
    watched.await_held("usb0")

    assert watched.frames_out("usb0") == 0
    assert watched.failshut("status").returncode == 0
    watched.leave_unwatched()
    watched.must("nft", *words)
    assert watched.frames_out("usb0") == (0 if "flush" in words else FRAMES), "the control"


def test_a_device_with_an_odd_name_hides_no_other(watched):
    """The kernel lets any but white space be in a name, and ip writes it into its JSON as it is, where not everything may be."""
    odd = ("odd\x01", "a,b", "\udcff\udcfe")
    watched.must("ip", "link", "add", odd[0], "type", "bridge")
    with pytest.raises(ValueError, match="control character"):
        json.loads(watched.must("ip", "-j", "link"))
    for name in odd[1:]:
        watched.must("ip", "link", "add", name, "type", "bridge")
    try:
        watched.leave_unwatched()
        watched.watch_lock()
        for verb in ("status", "plan", "arm"):
            done = watched.failshut(verb)
            assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stdout + done.stderr
        # By now the monitor has asked for the same, and is there still.
        watched.plug_in("usb0")
        watched.await_held("usb0")

        assert watched.frames_out("usb0") == 0
        assert watched.failshut("metrics").returncode == 0
    finally:
        for name in odd:
            watched.run("ip", "link", "del", name)


def test_the_loader_holds_the_later_devices_that_the_monitor_has_told(watched):
    """Whoever comes second, udev's rule or the guard, loads the same."""
    watched.plug_in("usb0")
    watched.await_held("usb0")
    watched.leave_unwatched(kill=True)
    watched.must("nft", "flush", "ruleset")
    assert watched.frames_out("usb0") == FRAMES
    watched.must("sh", "/etc/failshut/load")

    assert watched.frames_out("usb0") == 0
    assert watched.failshut("status").returncode == 0


def test_a_cable_put_into_a_bridge_of_guests_makes_it_a_way_out(watched):
    """A bridge of [forward] is a part of the machine until it gets a port to the outside; then both are held."""
    watched.must("ip", "link", "add", "br-guests", "type", "bridge")
    watched.must("ip", "link", "set", "br-guests", "up")
    watched.must("ip", "link", "add", "link", "eth0", "name", "cable9", "type", "macvlan")
    watched.await_held("cable9")
    assert "br-guests" not in watched.state()["under_ip"]
    watched.must("ip", "link", "set", "cable9", "master", "br-guests")
    watched.must("ip", "link", "set", "cable9", "up")
    watched.await_held("br-guests")

    assert watched.frames_out("br-guests") == 0
    assert watched.failshut("status").returncode == 0


def test_a_guest_plugged_into_a_bridge_is_let_go(watched):
    """Until it is in the bridge, a guest's cable looks like any other; a flush brings nothing back that was let go."""
    watched.must("ip", "link", "add", "br-guests", "type", "bridge")
    watched.must("ip", "link", "set", "br-guests", "up")
    watched.plug_in("guest0")
    watched.await_held("guest0")
    assert watched.frames_out("guest0") == 0
    watched.must("ip", "link", "set", "guest0", "master", "br-guests")
    assert until(lambda: "guest0" not in watched.state()["under_ip"], within=90, step=0.02)
    assert until(lambda: "guest0" not in watched.must("nft", "list", "table", "netdev", "failshut"), within=90, step=0.02)

    assert watched.frames_out("guest0") == FRAMES
    watched.must("nft", "flush", "ruleset")
    watched.await_event("drift")
    assert watched.frames_out("guest0") == FRAMES
    assert not {"wg0", "lo", "br-guests"} & set(watched.state()["under_ip"])
    assert watched.failshut("status").returncode == 0


def test_a_device_that_came_later_belongs_to_the_next_arming(watched):
    watched.plug_in("usb0")
    watched.await_held("usb0")
    watched.must(*FAILSHUT, "arm")

    assert watched.failshut("plan", "--exit-code").returncode == 0
    assert watched.frames_out("usb0") == 0
    watched.must("nft", "flush", "ruleset")
    watched.await_event("drift")
    assert watched.frames_out("usb0") == 0

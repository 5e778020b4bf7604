"""What attackers of this very design found, each with what they did: it leaked, or said what was not so, and does no longer."""

from __future__ import annotations

import json

import pytest

from amount import amount, thorough
from boot.living import arm, assert_armed, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address
from boot.roots import BOOKWORM
from failshut.drill.network.wait import until

static = pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"]),
]

LOADER, POLICY = "/etc/failshut/load", "/etc/failshut/failshut.toml"
LAN = "\n[allow.lan]\nprefixes = ['10.9.0.0/16']\n"
# A firewall of root's own, as one finds them: it flushes when it starts, or when it stops.
_FIREWALL = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={start}
ExecStop={stop}

[Install]
WantedBy=sysinit.target
"""


@pytest.mark.parametrize(
    ("machine", "cut"),
    [
        (Address.STATIC, 400),
        (Address.DHCP, 0),
        pytest.param(Address.STATIC, 0, marks=thorough),
        pytest.param(Address.DHCP, 3000, marks=thorough),
    ],
    indirect=["machine"],
)
def test_a_loader_that_was_cut_boots_closed_and_status_says_so(machine, cut):
    """An empty script succeeds: the unit asks the kernel, and the generator has a lock of its own."""
    phase = machine.router.wire.phase
    arm(machine)
    machine.run("truncate", f"--size={cut}", LOADER)
    # It waits two minutes for a network that rightly does not come.
    machine.systemctl_offline("mask", "systemd-networkd-wait-online")
    # It would put the whole lock back, from the sealed files: what is asked here is what holds without it.
    machine.systemctl_offline("disable", "failshut-monitor")
    assert status(machine)["boot"]["missing"] == [LOADER]
    assert machine.run("failshut", "status").code == 11
    with phase("reboot"):
        machine.reboot()
        machine.hear_noise()
        assert status(machine)["held"] in {"drop-everything", "none"}
    with phase("armed again"):
        assert machine.run("failshut", "arm").ok
        assert_armed(machine)
        machine.hear_noise()

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_a_flush_while_an_arming_waits_brings_the_waiting_lock_back(machine):
    """Neither open, nor the old policy, whatever reloads: and what is confirmed is what was armed."""
    phase = machine.router.wire.phase
    machine.write(POLICY, machine.read(POLICY) + LAN)
    arm(machine)
    machine.write(POLICY, machine.read(POLICY).replace(LAN, ""))
    with phase("waiting"):
        assert machine.run("failshut", "arm", "--confirm-within", "60").ok
        machine.run("systemctl", "stop", "wg-quick@wg0")
        for disturbance in (
            "nft flush ruleset",
            "systemctl restart nftables",
            "systemctl restart failshut-guard",
            "sh /etc/failshut/load link",
        ):
            assert machine.run(*disturbance.split()).ok, disturbance
            machine.hear_noise(10)
            assert machine.eventually("nft", "list", "table", "inet", "failshut", within=10), disturbance
            assert "10.9.0.0" not in machine.run("nft", "list", "ruleset").out, disturbance
        assert machine.run("systemctl", "start", "wg-quick@wg0").ok
        use(machine)
    with phase("confirmed"):
        assert machine.run("failshut", "confirm").ok
        machine.hear_noise(10)
        assert_armed(machine)
        assert "10.9.0.0" not in machine.run("nft", "list", "ruleset").out

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_confirming_loads_what_was_armed_when_something_else_is_held(machine):
    """What another program has put into the kernel meanwhile is not what the user confirms."""
    arm(machine)
    machine.write(POLICY, machine.read(POLICY) + LAN)
    assert machine.run("failshut", "arm", "--confirm-within", "60").ok
    assert machine.run("nft", "flush chain inet failshut underlay").ok

    assert machine.run("failshut", "confirm").ok

    assert_armed(machine)
    assert "10.9.0.0" in machine.run("nft", "list", "ruleset").out


@static
def test_the_lock_that_drops_everything_is_guarded_too(machine):
    """With no whole lock on the disk, a flush opens nothing either."""
    phase = machine.router.wire.phase
    arm(machine)
    machine.run("sh", "-c", "for file in /etc/failshut/armed/*/lock.nft; do echo broken >$file; done")
    with phase("reboot"):
        machine.reboot()
        assert status(machine)["guard"]
    with phase("flushed"):
        for _ in range(5):
            assert machine.run("nft", "flush", "ruleset").ok
            machine.hear_noise(10)
        assert until(lambda: status(machine)["held"] == "drop-everything", within=10, step=0.2)

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_isolating_a_target_does_not_stop_the_undoing(machine):
    """`systemctl isolate` stops every timer that does not say otherwise."""
    machine.boot()
    rules = machine.run("nft", "--stateless", "list", "ruleset").out

    assert machine.run("failshut", "arm", "--confirm-within", "4").ok
    machine.run("systemctl", "isolate", "multi-user.target")

    assert until(lambda: machine.run("nft", "--stateless", "list", "ruleset").out == rules, within=30, step=0.2)


@pytest.mark.parametrize(
    ("machine", "start", "stop"),
    [(Address.DHCP, "/usr/sbin/nft flush ruleset", "/bin/true"), (Address.STATIC, "/bin/true", "/usr/sbin/nft flush ruleset")],
    indirect=["machine"],
    ids=["start", "stop"],
)
def test_a_firewall_that_flushes_as_the_machine_starts_or_stops_opens_nothing(machine, start, stop):
    """The guard is there before the network, and to the end."""
    phase = machine.router.wire.phase
    machine.write("/etc/systemd/system/firewall.service", _FIREWALL.format(start=start, stop=stop))
    arm(machine)
    machine.systemctl_offline("enable", "firewall")
    machine.run("systemctl", "start", "firewall")
    for number in range(amount(usually=2, thoroughly=5)):
        with phase(f"reboot {number}"):
            machine.reboot()
            machine.hear_noise(10)
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_the_guard_is_never_away_while_it_takes_over_a_change(machine):
    """Devices come and armings follow each other under flushes: the guard's table stays its own all the while."""
    phase = machine.router.wire.phase
    arm(machine)
    machine.run("systemctl", "stop", "wg-quick@wg0")
    flood = "while :; do nft flush ruleset; done & echo $! >/run/flood"
    with phase("changes under flushes"):
        machine.run("sh", "-c", f"({flood}) >/dev/null 2>&1")
        for number in range(10):
            machine.run("ip", "link", "add", f"usb{number}", "type", "veth", "peer", "name", f"peer{number}")
            machine.run("sh", "/etc/failshut/load", "link")
            machine.run("systemctl", "reload", "failshut-guard")
            machine.hear_noise(5)
        machine.run("sh", "-c", "kill $(cat /run/flood)")

    assert_that_nothing_leaked_once_armed(machine)


# What systemd-suspend.service is to sleep.target; this one wakes up when an `allow` that was at work is done.
_SLEEP = """\
[Unit]
DefaultDependencies=no
Requires=sleep.target
After=sleep.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'failshut status --json >/run/slept.1'
ExecStart=failshut allow to 198.51.100.8:9001/udp --for 10m
ExecStart=/bin/sh -c 'failshut status --json >/run/slept.2'
"""


@static
def test_what_is_opened_while_the_machine_falls_asleep_ends_when_it_wakes_up(machine):
    """Twice: before it sleeps nothing is open any more, and after. The control: in between, what came late is."""
    arm(machine)
    machine.write("/etc/systemd/system/sleeps.service", _SLEEP)
    assert machine.run("systemctl", "daemon-reload").ok
    for _ in range(2):
        assert machine.run("failshut", "allow", "to", "198.51.100.9:9001/udp", "--for", "10m").ok
        assert machine.run("systemctl", "start", "sleeps").ok
        before, late = (json.loads(machine.run("cat", f"/run/slept.{number}").out) for number in (1, 2))
        assert not before["open"]
        assert [each["what"] for each in late["open"]] == ["to 198.51.100.8:9001/udp"], "the control"
        assert until(lambda: not status(machine)["open"], within=30, step=0.2)
        assert machine.eventually("sh", "-c", "! systemctl is-active --quiet failshut-asleep", within=30)


@static
def test_disarming_that_can_not_write_changes_nothing(machine):
    """A read-only directory is said before anything is taken away: the lock is on, and so is its guard."""
    arm(machine)
    for path in ("/etc/wireguard", "/etc/systemd/system"):
        assert machine.run("mount", "--bind", "-o", "ro", path, path).ok
        machine.run("mount", "-o", "remount,bind,ro", path)
        failed = machine.run("failshut", "disarm", "--yes")
        assert (failed.code, "can't be written" in failed.err) == (1, True), failed
        assert machine.run("umount", path).ok
        now = status(machine)
        assert (now["held"], now["guard"]) == ("current", True), path

    assert machine.run("failshut", "disarm", "--yes").ok


@static
def test_a_disarming_that_is_killed_is_said_as_soon_as_its_guard_is_away(machine):
    """The lock is on, and `status -q` does not call it sound; armed again, it is."""
    arm(machine)
    killed = (
        "failshut disarm --yes >/dev/null 2>&1 & pid=$!; "
        "while systemctl is-active --quiet failshut-guard; do :; done; kill -KILL $pid; wait $pid"
    )

    machine.run("sh", "-c", killed)

    now = status(machine)
    assert (now["state"], now["held"], now["guard"]) == ("drift", "current", False), now
    assert machine.run("failshut", "arm").ok
    now = status(machine)
    assert (now["state"], now["guard"], now["boot"]["missing"]) == ("armed", True, []), now


@static
def test_disarming_without_its_record_still_mends_the_config(machine):
    """Without armed.json the tagged line is found where wg-quick keeps its configs; a linked config stays a link."""
    arm(machine)
    assert machine.run(
        "sh",
        "-c",
        "cd /etc/wireguard && mv wg0.conf real.conf && ln -s real.conf wg0.conf && rm /etc/failshut/armed/[0-9]*/armed.json",
    ).ok
    assert status(machine)["boot"]["loaded_by"] == "systemd"

    assert machine.run("failshut", "disarm", "--yes").ok

    assert "FwMark" not in machine.read("/etc/wireguard/wg0.conf")
    assert machine.run("test", "-L", "/etc/wireguard/wg0.conf").ok

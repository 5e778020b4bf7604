"""An armed machine on which something takes the lock away, or everything that put it there: nothing leaks, and it comes back."""

from __future__ import annotations

import pytest

from boot.living import arm, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address, Machine
from boot.roots import BOOKWORM

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),
    # The address is there before the first process, so that a late lock is seen.
    pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"]),
]

FLUSHES = 20
# A file system for /var that is mounted as late as any: by a unit that waits for the network managers.
_LATE_VAR = """\
[Unit]
DefaultDependencies=no
After=systemd-networkd.service

[Mount]
What=tmpfs
Where=/var
Type=tmpfs

[Install]
WantedBy=multi-user.target
"""


def is_whole(machine: Machine) -> bool:
    """Wait until the lock is armed and the guard stands by."""
    return machine.eventually("sh", "-c", "failshut status && nft list table inet failshut-guard", within=30)


@pytest.mark.scenario(94)
def test_flushes_by_another_tool_leak_nothing_and_the_lock_is_back(machine):
    phase = machine.router.wire.phase
    arm(machine)
    assert is_whole(machine)
    with phase("nft flush ruleset"):
        for _ in range(FLUSHES):
            machine.run("nft", "flush", "ruleset")
            machine.hear_noise(10)
        assert is_whole(machine), status(machine)
        use(machine)
    with phase("nft flush ruleset, the tunnel down"):
        assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
        for _ in range(FLUSHES):
            machine.run("nft", "flush", "ruleset")
            machine.hear_noise(10)
        assert is_whole(machine), status(machine)
    with phase("the lock deleted"):
        assert machine.run("nft", "delete", "table", "inet", "failshut").ok
        machine.run("nft", "delete", "table", "netdev", "failshut")
        machine.hear_noise()
        assert is_whole(machine), status(machine)
    with phase("a rule that accepts everything, and nobody who takes it out"):
        assert machine.run("systemctl", "stop", "failshut-monitor").ok
        assert machine.run("nft", "insert rule inet failshut postrouting accept").ok
        machine.hear_noise()
        assert status(machine)["state"] == "drift"

    assert_that_nothing_leaked_once_armed(machine)


def test_without_the_guard_a_flush_leaks(machine):
    """The control: the flushes above are seen to leak where nothing stands by, and nobody watches."""
    arm(machine)
    assert machine.run("systemctl", "stop", "failshut-monitor", "failshut-guard", "wg-quick@wg0").ok
    with machine.router.wire.phase("flushed"):
        assert machine.run("nft", "flush", "ruleset").ok
        machine.hear_noise()
    report = machine.router.wire.stop(machine.router.case)

    assert {"udp", "tcp", "icmp", "raw", "packet", "udp6"} <= set(report.by_phase["flushed"])


@pytest.mark.scenario(60, 61)
@pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])
def test_units_that_are_killed_or_restarted_leak_nothing(machine):
    phase = machine.router.wire.phase
    arm(machine)
    with phase("the guard killed"):
        for _ in range(3):
            assert machine.run("systemctl", "kill", "--signal=KILL", "failshut-guard").ok
            machine.hear_noise(10)
        assert is_whole(machine), machine.journal()
    with phase("stop and restart are refused"):
        for verb in ("stop", "restart"):
            assert not machine.run("systemctl", verb, "failshut").ok
        assert machine.run("systemctl", "is-active", "--quiet", "systemd-networkd").ok
    with phase("systemd itself starts over"):
        for verb in ("daemon-reload", "daemon-reexec"):
            assert machine.run("systemctl", verb).ok
            machine.hear_noise(10)
    with phase("rescue mode"):
        machine.run("systemctl", "isolate", "rescue.target")
        machine.hear_noise()
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.scenario(62, 63)
@pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])
def test_the_lock_outlives_the_program_that_armed_it(machine):
    """Upgraded, broken or removed without disarming, with Python itself: the lock stays, at the next boot too."""
    phase = machine.router.wire.phase
    arm(machine)
    with phase("failshut and Python removed"):
        assert machine.run("sh", "-c", "rm -rf /usr/local/bin/failshut /opt/failshut/lib && mkdir /opt/failshut/lib").ok
        machine.hear_noise(10)
        # The noise is a Python program: another name, that no one else looks for.
        assert machine.run("sh", "-c", "mkdir /var/away && mv /usr/lib/python3/dist-packages /var/away").ok
    with phase("reboot"):
        machine.reboot()
        use(machine)
        assert "(current)" in machine.journal().rpartition("Journal started")[2]
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])
def test_the_boot_needs_nothing_under_var(machine):
    """With /var mounted after the network is up, and empty, the lock is on before the network."""
    phase = machine.router.wire.phase
    arm(machine)
    machine.write("/etc/systemd/system/var.mount", _LATE_VAR)
    machine.systemctl_offline("enable", "var.mount")
    with phase("reboot"):
        machine.reboot()
        assert machine.eventually("mountpoint", "-q", "/var", within=30)
        use(machine)
        assert status(machine)["held"] == "current"
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])
def test_a_guard_of_which_a_part_is_killed_begins_anew(machine):
    """Whichever of its processes dies, a whole guard stands by again; what is flushed meanwhile is put back."""
    arm(machine)
    for part in ("nft --interactive", "nft monitor", "load guard"):
        assert is_whole(machine), part
        before = guard_started(machine)
        with machine.router.wire.phase(f"{part} killed"):
            assert machine.run("pkill", "-KILL", "--oldest", "--full", part).ok
            assert machine.eventually("sh", "-c", f"[ $(systemctl show -P MainPID failshut-guard) != {before} ]", within=30), part
            assert is_whole(machine), part
            machine.run("nft", "flush", "ruleset")
            machine.hear_noise(10)
            assert is_whole(machine), part

    assert_that_nothing_leaked_once_armed(machine)


def guard_started(machine: Machine) -> str:
    """Return the number of the guard's first process."""
    return machine.run("systemctl", "show", "-P", "MainPID", "failshut-guard").out.strip()

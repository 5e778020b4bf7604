"""The life of a whole machine: without a lock everything that befalls it is seen to leak, with the lock nothing does.

Its network is up in the initramfs already, so that every boot has to be locked before any unit. The guide's own design is tried in
tests/boot, where a machine boots in a second.
"""

from __future__ import annotations

import pytest

from boot import noise
from boot.router import POLICY
from vm import early
from vm.living import EVENTS, UNLOCKED, arm, judged, kinds, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
# What was written comes to the disk first, as it would within seconds.
PANIC = ("sh", "-c", "sync; echo c > /proc/sysrq-trigger")
STARTS = {
    "reset": Machine.reset,
    "kernel panic": lambda machine: machine.restart(*PANIC),
    "systemctl reboot": lambda machine: machine.restart("systemctl", "reboot"),
}


@pytest.mark.scenario(64, 65, 66, 67, 74, 94)
def test_from_power_on_to_power_off_nothing_leaks_once_it_is_armed(machine_with):
    machine = machine_with(early.WORDS)
    a_boot_is_seen_to_leak(machine)

    machine.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    arm(machine)
    with machine.wire.phase("power-off"):
        machine.power_off()
    machine.take_initramfs()
    for name, start in {"cold boot": Machine.boot, **STARTS}.items():
        with machine.wire.phase(name):
            assert start(machine) == "running", machine.journal()
            assert_that_the_initramfs_had_a_network(machine)
            use(machine)
        assert_that_nothing_leaked(machine)
    for event in EVENTS:
        with machine.wire.phase(event.name):
            event.befall(machine)
            use(machine)
        assert_that_nothing_leaked(machine)
    assert machine.lost() == 0

    is_free_once_it_is_disarmed(machine)
    every_event_is_seen_to_leak(machine)


def a_boot_is_seen_to_leak(machine: Machine) -> None:
    """Boot without a lock: the judge sees every kind of leak that there is, from the initramfs on."""
    with machine.wire.phase(UNLOCKED):
        machine.boot()
        assert_that_the_initramfs_had_a_network(machine)
        use(machine)
    control = judged(machine)
    assert kinds(control, UNLOCKED) >= {*noise.TARGETS, early.KIND}, control


def is_free_once_it_is_disarmed(machine: Machine) -> None:
    """Disarm, and boot once more by the initramfs that holds the lock still: it has to let it go."""
    assert machine.run("failshut", "disarm", "--yes", timeout=1800).ok
    machine.power_off()
    judged(machine)
    with machine.wire.phase("disarmed"):
        machine.boot()
        assert not machine.run("sh", "-c", "nft list tables | grep failshut").ok
        use(machine)
    assert kinds(judged(machine), "disarmed") & set(noise.TARGETS)


def every_event_is_seen_to_leak(machine: Machine) -> None:
    """Have everything befall the machine without a lock."""
    for event in EVENTS:
        with machine.wire.phase(event.name):
            event.befall(machine)
            use(machine)
        control = judged(machine)
        assert kinds(control, event.name) >= event.leaks, control


def assert_that_nothing_leaked(machine: Machine) -> None:
    """End a chapter."""
    report = judged(machine)
    assert not report.leaks, report


def assert_that_the_initramfs_had_a_network(machine: Machine) -> None:
    """Its configuration and the sender's count were handed on to the machine."""
    assert machine.run("sh", "-c", "grep -h IPV4ADDR /run/net-*.conf").ok
    assert machine.run("cat", early.COUNT).out.strip() == str(early.ROUNDS)

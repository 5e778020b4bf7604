"""The life of a whole machine: without a lock everything that befalls it is seen to leak, with the lock nothing does.

Its network is up in the initramfs already, so that every boot has to be locked before any unit. The guide's own design is tried in
tests/boot, where a machine boots in a second.
"""

from __future__ import annotations

import pytest

from boot import noise
from boot.router import POLICY
from vm import early
from vm.chronicle import COLD_BOOT, Chronicle
from vm.living import EVENTS, UNLOCKED, arm, disarm, judged, kinds, use
from vm.machine import Machine
from vm.ways import BY_NO_HOOK, WAYS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
# What was written comes to the disk first, as it would within seconds.
PANIC = ("sh", "-c", "sync; echo c > /proc/sysrq-trigger")
REBOOT = ("systemctl", "reboot")
STARTS = {
    COLD_BOOT: Machine.boot,
    "reset": Machine.reset,
    "kernel panic (sysrq)": lambda machine: machine.restart(*PANIC),
    "systemctl reboot": lambda machine: machine.restart(*REBOOT),
}
# What works below IP and what carries it, of the drill: a lab in the machine, with the kernel's own WireGuard.
DRILLED = ("guide-1", "packet-sockets")


@pytest.mark.scenario(64, 65, 66, 67, 74, 94)
def test_from_power_on_to_power_off_nothing_leaks_once_it_is_armed(machine_with, chronicle: Chronicle):
    machine = machine_with(early.WORDS)
    a_boot_is_seen_to_leak(machine, chronicle)

    machine.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    arm(machine)
    with chronicle.held(machine, "power-off"):
        machine.power_off()
    machine.take_initramfs()
    for name, start in STARTS.items():
        with chronicle.held(machine, name):
            assert start(machine) == "running", machine.journal()
            assert_that_the_initramfs_had_a_network(machine)
            use(machine)
    for event in EVENTS:
        with chronicle.held(machine, event.name):
            event.befall(machine)
            use(machine)
    chronicle.every_way_is_held(machine, WAYS)
    chronicle.what_no_hook_sees_is_seen_to_leak(machine, BY_NO_HOOK)
    with chronicle.held(machine, "the tunnel afterwards"):
        use(machine)
    with chronicle.held(machine, "failshut verify"):
        verified = machine.run("failshut", "verify", "--yes", timeout=1800)
        assert verified.ok, verified
        use(machine)
    assert machine.lost() == 0

    is_free_once_it_is_disarmed(machine, chronicle)
    for event in EVENTS:
        with chronicle.leaks(machine, event.name, event.leaks):
            event.befall(machine)
            use(machine)
    chronicle.every_way_is_seen_to_leak(machine, WAYS)
    drilled = machine.run("failshut", "drill", "--example", "--jobs", "1", *DRILLED, timeout=1800)
    assert drilled.ok, drilled


def a_boot_is_seen_to_leak(machine: Machine, chronicle: Chronicle) -> None:
    """Boot without a lock: the judge sees every kind of leak that there is, from the initramfs on."""
    with machine.wire.phase(UNLOCKED):
        machine.boot()
        assert_that_the_initramfs_had_a_network(machine)
        use(machine)
    control = judged(machine)
    chronicle.begin(machine)
    chronicle.note_control(COLD_BOOT, control, UNLOCKED)
    assert kinds(control, UNLOCKED) >= {*noise.TARGETS, early.KIND}, control


def is_free_once_it_is_disarmed(machine: Machine, chronicle: Chronicle) -> None:
    """Disarm, and start over by the initramfs that holds the lock still: it has to let it go."""
    disarm(machine)
    with chronicle.leaks(machine, "systemctl reboot", frozenset(noise.TARGETS)):
        machine.restart(*REBOOT)
        assert not machine.run("sh", "-c", "nft list tables | grep failshut").ok
        use(machine)


def assert_that_the_initramfs_had_a_network(machine: Machine) -> None:
    """Its configuration and the sender's count were handed on to the machine."""
    assert machine.run("sh", "-c", "grep -h IPV4ADDR /run/net-*.conf").ok
    assert machine.run("cat", early.COUNT).out.strip() == str(early.ROUNDS)

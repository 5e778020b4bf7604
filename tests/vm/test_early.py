"""A whole machine whose network is up in the initramfs already: each boot has to be locked before its root file system is there."""

from __future__ import annotations

import pytest

from boot import noise
from boot.router import POLICY
from vm import early
from vm.chronicle import Chronicle
from vm.living import UNLOCKED, arm, disarm, judged, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
EARLY_BOOT, EARLY_REBOOT = "cold boot, network in the initramfs", "reboot, network in the initramfs"
REBOOT = ("systemctl", "reboot")


@pytest.mark.scenario(65)
def test_a_network_that_is_up_in_the_initramfs_is_locked_there_and_let_go_once_disarmed(machine_with, chronicle: Chronicle):
    machine = machine_with(early.WORDS)
    a_boot_is_seen_to_leak(machine, chronicle)

    machine.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    arm(machine)
    machine.power_off()
    judged(machine)
    machine.take_initramfs()
    with chronicle.held(machine, EARLY_BOOT):
        assert machine.boot() == "running", machine.journal()
        assert_that_the_initramfs_had_a_network(machine)
        use(machine)
    assert machine.lost() == 0

    is_free_once_it_is_disarmed(machine, chronicle)


def a_boot_is_seen_to_leak(machine: Machine, chronicle: Chronicle) -> None:
    """Boot without a lock: the judge sees every kind of leak that there is, from the initramfs on."""
    with machine.wire.phase(UNLOCKED):
        machine.boot()
        assert_that_the_initramfs_had_a_network(machine)
        use(machine)
    chronicle.start_is_seen_to_leak(machine, EARLY_BOOT, early.KIND)


def is_free_once_it_is_disarmed(machine: Machine, chronicle: Chronicle) -> None:
    """Disarm, and start over by the initramfs that holds the lock still: it has to let it go."""
    disarm(machine)
    with chronicle.leaks(machine, EARLY_REBOOT, frozenset(noise.TARGETS)):
        machine.restart(*REBOOT)
        assert not machine.run("sh", "-c", "nft list tables | grep failshut").ok
        use(machine)


def assert_that_the_initramfs_had_a_network(machine: Machine) -> None:
    """Its configuration and the sender's count were handed on to the machine."""
    assert machine.run("sh", "-c", "grep -h IPV4ADDR /run/net-*.conf").ok
    assert machine.run("cat", early.COUNT).out.strip() == str(early.ROUNDS)

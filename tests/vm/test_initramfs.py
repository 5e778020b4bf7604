"""A network that is up in the initramfs: earlier than any unit, and with `initramfs = true` later than the lock all the same."""

from __future__ import annotations

import pytest

from boot.router import POLICY
from vm import early
from vm.living import UNLOCKED, arm, kinds, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(5400)]
EARLY = set(early.TARGETS.values())


def assert_that_the_initramfs_had_a_network(machine: Machine) -> None:
    """Its configuration and the sender's count were handed on."""
    assert machine.run("sh", "-c", "grep -h IPV4ADDR /run/net-*.conf").ok
    assert machine.run("cat", early.COUNT).out.strip() == str(early.ROUNDS)


@pytest.mark.scenario(65)
def test_a_network_in_the_initramfs_comes_after_the_lock_and_goes_with_it(machine_with):
    machine = machine_with(early.WORDS)
    phase = machine.wire.phase
    with phase(UNLOCKED):
        machine.boot()
        assert_that_the_initramfs_had_a_network(machine)
    control = machine.wire.judged(machine.case)
    assert kinds(control, UNLOCKED) >= EARLY, control

    machine.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    arm(machine)
    machine.power_off()
    machine.wire.judged(machine.case)
    machine.take_initramfs()
    with phase("armed"):
        assert machine.boot() == "running", machine.journal()
        assert_that_the_initramfs_had_a_network(machine)
        use(machine)
    report = machine.wire.judged(machine.case)
    assert not report.leaks, report
    assert report.allowed["dhcp"], report

    # The initramfs of this boot is not the one that disarming wrote: it holds the lock still, and has to let it go.
    assert machine.run("failshut", "disarm", "--yes", timeout=1200).ok
    machine.power_off()
    machine.wire.judged(machine.case)
    with phase("disarmed"):
        machine.boot()
        assert not machine.run("sh", "-c", "nft list tables | grep failshut").ok
        machine.hear_noise()
    assert kinds(machine.wire.judged(machine.case), "disarmed") & {"packet", "udp", "icmp"}

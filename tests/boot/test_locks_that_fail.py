"""A boot whose lock is damaged, or cannot be loaded at all: the network may be lost, and nothing leaks."""

from __future__ import annotations

import pytest

from boot import noise
from boot.living import arm, assert_that_nothing_leaked_once_armed, judged, use
from boot.machine import Address, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

CURRENT, LAST_GOOD = "/etc/failshut/armed/current/lock.nft", "/etc/failshut/armed/last-good/lock.nft"
DAMAGED = "table inet failshut {\n"
BOOTS_OF_A_RACE = 10

# The address is there before the first process, so that a late lock is seen.
static = pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
dhcp = pytest.mark.parametrize("machine", [Address.DHCP], indirect=True, ids=["dhcp"])


def assert_that_the_next_boot_is_closed(machine: Machine) -> None:
    """Reboot: not even the tunnel carries."""
    machine.stop("reboot")
    carried = machine.router.carried()
    with machine.router.wire.phase("boot"):
        machine.boot()
        machine.hear_noise()
        machine.power_off()

    assert machine.router.carried() == carried
    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.scenario(65)
@static
def test_without_the_generator_the_first_packets_of_a_boot_leak(machine):
    arm(machine)
    machine.remove("/etc/systemd/system-generators/failshut")
    with machine.router.wire.phase("boot"):
        # The service and the noise start side by side, so that a single boot may go well by chance.
        wire = machine.router.wire
        began = wire.elapsed
        for _ in range(BOOTS_OF_A_RACE):
            machine.stop("reboot")
            machine.boot()
            if any(wire.saw(kind, began) for kind in noise.TARGETS):
                break
    machine.power_off()
    report = judged(machine)

    assert "boot" in report.by_phase, "the noise is not early enough for these tests"


@static
def test_a_damaged_lock_gives_way_to_the_last_good_one(machine):
    arm(machine)
    machine.write(CURRENT, DAMAGED)
    with machine.router.wire.phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_with_every_lock_damaged_nothing_leaves(machine):
    arm(machine)
    machine.write(CURRENT, DAMAGED)
    machine.write(LAST_GOOD, DAMAGED)
    assert_that_the_next_boot_is_closed(machine)


@dhcp
def test_without_nft_the_network_does_not_come_up(machine):
    arm(machine)
    machine.remove("/usr/sbin/nft")
    assert_that_the_next_boot_is_closed(machine)

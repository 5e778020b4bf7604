"""An armed machine lives its life, and from the first process to the last nothing leaves that the policy does not allow."""

from __future__ import annotations

import pytest

from boot.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

UNARMED = "before the lock"


def use(machine: Machine) -> None:
    """Have the tunnel carry the noise, which the server sees."""
    assert machine.router.carries(), machine.journal()
    machine.hear_noise()


def arm(machine: Machine) -> None:
    """Boot without a lock, in which the noise leaks, and arm."""
    with machine.router.wire.phase(UNARMED):
        machine.boot()
        use(machine)
        armed = machine.run("failshut", "arm")
        assert armed.ok, armed.complaint


def assert_that_nothing_leaked_once_armed(machine: Machine) -> None:
    report = machine.router.wire.stop(machine.router.case)

    assert UNARMED in report.by_phase, "the judge is blind"
    assert set(report.by_phase) == {UNARMED}, report


def test_nothing_leaks_in_a_day_of_an_armed_machine(machine):
    phase = machine.router.wire.phase
    arm(machine)
    with phase("the tunnel up"):
        use(machine)
    with phase("wireguard-go killed"):
        assert machine.run("pkill", "-KILL", "-x", "wireguard-go").ok
        machine.hear_noise()
    with phase("wg-quick restarted"):
        machine.run("systemctl", "restart", "wg-quick@wg0")
        use(machine)
    with phase("wg-quick stopped"):
        assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
        machine.hear_noise()
    with phase("wg-quick started"):
        assert machine.run("systemctl", "start", "wg-quick@wg0").ok
        use(machine)
    with phase("the network manager restarted"):
        assert machine.run("systemctl", "restart", "systemd-networkd").ok
        use(machine)
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    with phase("the power cut, and the boot after it"):
        machine.power_cut()
        assert machine.boot() == "running", machine.journal()
        use(machine)
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)

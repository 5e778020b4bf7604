"""Every way in which a machine starts over: without a lock, with the guide's own design, and with the lock."""

from __future__ import annotations

import pytest

from boot import noise
from boot.test_controls import DROP_IN, RULES4, RULES6
from vm.living import UNLOCKED, arm, kinds, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
GUIDE = "the guide"
# The machine's last words come to the disk first, as they would within seconds.
PANIC = ("sh", "-c", "sync; echo c > /proc/sysrq-trigger")
STARTS = {
    "systemctl reboot": lambda machine: machine.restart("systemctl", "reboot"),
    "reset": Machine.reset,
    "kernel panic": lambda machine: machine.restart(*PANIC),
}


def start_over(machine: Machine, prefix: str) -> None:
    """Start over by every way, and use the tunnel after each."""
    for name, start in STARTS.items():
        with machine.wire.phase(f"{prefix}{name}"):
            start(machine)
            use(machine)


@pytest.mark.scenario(64, 66)
def test_from_power_on_to_power_off_nothing_leaks_once_it_is_armed(machine):
    phase = machine.wire.phase
    with phase(f"{UNLOCKED}: cold boot"):
        machine.boot()
        use(machine)
    start_over(machine, f"{UNLOCKED}: ")
    obey_the_guide(machine)
    with phase(f"{GUIDE}: systemctl reboot"):
        machine.restart("systemctl", "reboot")
        use(machine)
    control = machine.wire.judged(machine.case)
    for name in ("cold boot", *STARTS):
        assert set(noise.TARGETS) <= kinds(control, f"{UNLOCKED}: {name}"), control
    assert kinds(control, f"{GUIDE}: systemctl reboot") & set(noise.TARGETS), control

    forget_the_guide(machine)
    arm(machine)
    machine.wire.judged(machine.case)
    start_over(machine, "")
    with phase("power-off"):
        machine.power_off()
    with phase("cold boot"):
        assert machine.boot() == "running", machine.journal()
        use(machine)
    report = machine.wire.judged(machine.case)

    assert not report.leaks, report
    assert machine.lost() == 0


def obey_the_guide(machine: Machine) -> None:
    """Have the guide's rules load at every boot."""
    machine.write("/etc/iptables/rules.v4", RULES4)
    machine.write("/etc/iptables/rules.v6", RULES6)
    machine.write("/etc/systemd/system/wg-quick@.service.d/after-the-rules.conf", DROP_IN)
    assert machine.run("systemctl", "enable", "netfilter-persistent").ok


def forget_the_guide(machine: Machine) -> None:
    """Go on as before it."""
    assert machine.run("systemctl", "disable", "netfilter-persistent").ok
    assert machine.run("rm", "-r", "/etc/systemd/system/wg-quick@.service.d").ok
    assert machine.run("nft", "flush", "ruleset").ok
    assert machine.run("systemctl", "daemon-reload").ok

"""The life of a whole machine: without a lock, and with the guide's own design, it is seen to leak; with the lock nothing does."""

from __future__ import annotations

import pytest

from boot import noise
from boot.test_controls import DROP_IN, RULES4, RULES6
from vm.living import EVENTS, UNLOCKED, arm, kinds, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
GUIDE = "the guide"
# What was written comes to the disk first, as it would within seconds.
PANIC = ("sh", "-c", "sync; echo c > /proc/sysrq-trigger")
STARTS = {
    "systemctl reboot": lambda machine: machine.restart("systemctl", "reboot"),
    "reset": Machine.reset,
    "kernel panic": lambda machine: machine.restart(*PANIC),
}


@pytest.mark.scenario(64, 66, 67, 74, 94)
def test_from_power_on_to_power_off_nothing_leaks_once_it_is_armed(machine):
    phase = machine.wire.phase
    cold = f"{UNLOCKED}: cold boot"
    with phase(cold):
        machine.boot()
        use(machine)
    befall(machine, f"{UNLOCKED}: ")
    obey_the_guide(machine)
    with phase(GUIDE):
        machine.restart(*PANIC)
        use(machine)
    control = machine.wire.judged(machine.case)
    assert set(noise.TARGETS) <= kinds(control, cold), control
    assert kinds(control, GUIDE) & set(noise.TARGETS), control
    for event in EVENTS:
        seen = kinds(control, f"{UNLOCKED}: {event.name}")
        assert event.leaks <= seen, f"{event.name}: the judge is blind to {event.leaks - seen}\n{control}"

    forget_the_guide(machine)
    arm(machine)
    machine.wire.judged(machine.case)
    befall(machine, "")
    for name, start in STARTS.items():
        with phase(name):
            assert start(machine) == "running", machine.journal()
            use(machine)
    with phase("power-off"):
        machine.power_off()
    with phase("cold boot"):
        assert machine.boot() == "running", machine.journal()
        use(machine)
    report = machine.wire.judged(machine.case)

    assert not report.leaks, report
    assert machine.lost() == 0


def befall(machine: Machine, prefix: str) -> None:
    """Have everything befall the machine that can, and use the tunnel after each."""
    for event in EVENTS:
        with machine.wire.phase(f"{prefix}{event.name}"):
            event.befall(machine)
            use(machine)


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

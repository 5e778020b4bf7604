"""The life of a whole machine: what befalls it, rare ways out of it, every way to go off and on again.

Without a lock each is seen to leak, with the lock none does. The guide's own design is tried in tests/boot, in boots of a second.
"""

from __future__ import annotations

import pytest

from vm.chronicle import COLD_BOOT, Chronicle
from vm.living import EVENTS, UNLOCKED, arm, use
from vm.machine import Machine
from vm.ways import BY_NO_HOOK, SENDER, SENDERS_TEXT, WAYS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]
# What was written comes to the disk first, as it would within seconds.
PANIC = ("sh", "-c", "sync; echo c > /proc/sysrq-trigger")
STARTS = {
    COLD_BOOT: Machine.boot,
    "reset": Machine.reset,
    "kernel panic (sysrq)": lambda machine: machine.restart(*PANIC),
    "systemctl reboot": lambda machine: machine.restart("systemctl", "reboot"),
}
# Of the drill, in a lab in the machine with the kernel's own WireGuard: an attack of the guide's, and one below IP.
DRILLED = ("guide-1", "packet-sockets")


@pytest.mark.scenario(64, 66, 67, 74, 94)
def test_from_power_on_to_power_off_nothing_leaks_once_it_is_armed(machine: Machine, chronicle: Chronicle):
    everything_is_seen_to_leak(machine, chronicle)
    arm(machine)
    chronicle.every_event_is_held(machine, EVENTS)
    chronicle.every_way_is_held(machine, WAYS)
    chronicle.what_no_hook_sees_is_seen_to_leak(machine, BY_NO_HOOK)
    with chronicle.held(machine, "power-off"):
        machine.power_off()
    for name, start in STARTS.items():
        with chronicle.held(machine, name):
            assert start(machine) == "running", machine.journal()
            use(machine)
    with chronicle.held(machine, "`failshut verify`"):
        verified = machine.run("failshut", "verify", "--yes", timeout=1800)
        assert verified.ok, verified
        use(machine)
    with chronicle.held(machine, f"`failshut drill --example {' '.join(DRILLED)}`"):
        drilled = machine.run("failshut", "drill", "--example", "--jobs", "1", *DRILLED, timeout=1800)
        assert drilled.ok, drilled
    assert machine.lost() == 0


def everything_is_seen_to_leak(machine: Machine, chronicle: Chronicle) -> None:
    """Boot without a lock, and have everything befall the machine."""
    with machine.wire.phase(UNLOCKED):
        machine.boot()
        use(machine)
    machine.write(SENDER, SENDERS_TEXT)
    chronicle.start_is_seen_to_leak(machine, COLD_BOOT)
    chronicle.every_event_is_seen_to_leak(machine, EVENTS)
    chronicle.every_way_is_seen_to_leak(machine, WAYS)

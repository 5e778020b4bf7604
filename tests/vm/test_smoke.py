"""The smallest life of a whole machine, of a single boot: it is armed, loses its tunnel with the kernel's module, and goes off."""

from __future__ import annotations

import pytest

from boot import noise
from vm import images
from vm.living import UNLOCKED, arm, kinds, take_the_module_away, use

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("image", [images.BOOKWORM], indirect=True, ids=["bookworm"])
def test_a_whole_machine_leaks_until_it_is_armed_and_never_after(machine):
    phase = machine.wire.phase
    with phase(UNLOCKED):
        machine.boot()
        use(machine)
    control = machine.wire.judged(machine.case)
    assert set(noise.TARGETS) <= kinds(control, UNLOCKED), control

    arm(machine)
    with phase("wireguard module removed"):
        take_the_module_away(machine)
        use(machine)
    with phase("power-off"):
        machine.power_off()
    report = machine.wire.judged(machine.case)

    assert not report.leaks, report

"""What befalls a running machine, first without a lock, where every event is seen to leak, then with it."""

from __future__ import annotations

import pytest

from vm.living import EVENTS, UNLOCKED, arm, kinds, use

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]


@pytest.mark.scenario(74, 94)
def test_what_befalls_a_running_machine_leaks_nothing_once_it_is_armed(machine):
    phase = machine.wire.phase
    with phase(UNLOCKED):
        machine.boot()
        use(machine)
    for event in EVENTS:
        with phase(f"{UNLOCKED}: {event.name}"):
            event.befall(machine)
            use(machine)
    control = machine.wire.judged(machine.case)
    for event in EVENTS:
        seen = kinds(control, f"{UNLOCKED}: {event.name}")
        assert event.leaks <= seen, f"{event.name}: the judge is blind to {event.leaks - seen}\n{control}"

    arm(machine)
    machine.wire.judged(machine.case)
    for event in EVENTS:
        with phase(event.name):
            event.befall(machine)
            use(machine)
    report = machine.wire.judged(machine.case)

    assert not report.leaks, report
    assert machine.lost() == 0

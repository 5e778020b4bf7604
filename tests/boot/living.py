"""What the tests of an armed machine do with it."""

from __future__ import annotations

import json

from boot.machine import Machine
from boot.wire import Report

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


def status(machine: Machine) -> dict:
    """Return what `failshut status` says."""
    return json.loads(machine.run("failshut", "status", "--json").out)


def assert_armed(machine: Machine) -> None:
    """Nothing may be wrong with the lock; what is, is shown."""
    said = status(machine)
    assert said["state"] == "armed", said


def judged(machine: Machine) -> Report:
    """End the capture; the judge must have seen the leaks of the time before the lock."""
    report = machine.router.wire.stop(machine.router.case)
    assert UNARMED in report.by_phase, "the judge is blind"
    return report


def assert_that_nothing_leaked_once_armed(machine: Machine) -> None:
    """End the capture, in which nothing may have leaked since `arm`."""
    report = judged(machine)
    assert set(report.by_phase) == {UNARMED}, report

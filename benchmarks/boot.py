"""What the lock costs at boot: alternating boots of one machine with and without it, in milliseconds on systemd's own clock."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from boot import roots
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router

BOOTS = 7
# systemd's own stamps, in microseconds since the machine around it was started.
_MANAGER = ("UserspaceTimestampMonotonic", "GeneratorsStartTimestampMonotonic", "GeneratorsFinishTimestampMonotonic")


def measure() -> Iterator[tuple[str, float]]:
    """Yield the name and the median, in milliseconds, of each figure."""
    locked: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    with (
        Room() as room,
        Router(room) as router,
        Machine(room, router, roots.obtain(roots.BOOKWORM, _say), Address.STATIC) as machine,
    ):
        machine.systemctl_offline("disable", "noise")
        machine.boot()
        for _ in range(BOOTS):
            machine.run("failshut", "arm")
            machine.reboot()
            locked.append(_figures(machine, locked=True))
            machine.run("failshut", "disarm", "--yes")
            machine.reboot()
            plain.append(_figures(machine, locked=False))
    for name in locked[0]:
        yield f"{name}, locked", statistics.median(each[name] for each in locked)
        if name in plain[0]:
            yield f"{name}, plain", statistics.median(each[name] for each in plain)


def _figures(machine: Machine, *, locked: bool) -> dict[str, float]:
    began, generators, generated = (_stamp(machine, each) for each in _MANAGER)
    figures = {
        "generators": generated - generators,
        "first process to the network": _stamp(machine, "ActiveEnterTimestampMonotonic", "systemd-networkd") - began,
    }
    if locked:
        ended, started = (_stamp(machine, f"ExecMain{each}TimestampMonotonic", "failshut") for each in ("Exit", "Start"))
        figures["boot unit"] = ended - started
    return {name: micro / 1000 for name, micro in figures.items()}


def _stamp(machine: Machine, name: str, *unit: str) -> int:
    return int(machine.run("systemctl", "show", "--value", f"--property={name}", *unit).out or 0)


def _say(what: str) -> None:
    print(what, file=sys.stderr)

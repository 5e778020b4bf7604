"""From a foreign change of the rules until the monitor has put them back."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure, Unit, figure
from watched import Watched

TITLE = "Until the lock is back"
CHANGES = 20
_COMMANDS = {
    "nft flush ruleset": ("nft", "flush", "ruleset"),
    "a rule more": ("nft", "insert rule inet failshut postrouting accept"),
}


def measure() -> Iterator[Figure]:
    """Yield the milliseconds that the monitor itself says, from the kernel's message on."""
    with Watched() as lab:
        lab.arm()
        lab.watch_lock()
        for name, command in _COMMANDS.items():
            before = len(lab.events("drift"))
            for number in range(CHANGES):
                lab.must(*command)
                lab.await_event("drift", before + number + 1)
            times = [float(each["fields"]["ms"]) for each in lab.events("drift")[before:]]
            yield figure(TITLE, name, "put back in", times, Unit.MILLISECONDS)

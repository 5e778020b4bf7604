"""What runs beside the tests: programs that go on throughout, and the probes of the test at hand, from one thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Self

from failshut.drill.network.wait import pace
from failshut.verify.outcome import Tried
from failshut.verify.probes import Probe

# Between two rounds, in seconds. A round sends each probe once.
_PACE = 0.05


class Sending:
    """Sends until it is left. `everything` are all probes there ever were, to know whose a packet was."""

    def __init__(self, programs: Sequence[Probe]) -> None:
        """Take the programs that run from the beginning to the end."""
        self._programs = list(programs)
        self._probes: list[Probe] = []
        self.everything = list(programs)
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sending", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for probe in self.everything:
            probe.close()

    def turn(self, probes: Sequence[Probe]) -> tuple[Tried, ...]:
        """Send `probes` from now on instead of the ones before; return what those and the programs tried."""
        with self._turn:
            tried = tuple(each.tally() for each in (*self._programs, *self._probes))
            for each in self._probes:
                each.close()
            self._probes = list(probes)
            self.everything += probes
        return tried

    def now(self, probes: Sequence[Probe]) -> None:
        """Send each of `probes` once, at once."""
        with self._turn:
            for each in probes:
                each.step()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._turn:
                for probe in (*self._programs, *self._probes):
                    probe.step()
            pace(_PACE)

"""CPU per small UDP packet: into the tunnel, WireGuard's own transport, and what is refused.

A namespace for each switch, all at once; a few milliseconds of packets in each, in turns, so that what else the machine does falls
on all alike. The ratio is each round's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure, Unit, figure, ratios
from benchmarks.ground import BLOCKED, TRANSPORT, TUNNEL, Ground
from benchmarks.switches import NO_RULES, switches

TITLE = "CPU per small UDP packet"
ROUNDS = 150
_FLOWS = {"into the tunnel": TUNNEL, "transport": TRANSPORT, "refused": BLOCKED}


def measure() -> Iterator[Figure]:
    """Yield the ns and the ratio of each switch and flow."""
    grounds = {name: Ground(load).open(*_FLOWS.values()) for name, load in switches().items()}
    measured: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS):
        for name in list(grounds)[:: -1 if turn % 2 else 1]:
            for flow, packets in _FLOWS.items():
                measured.setdefault((name, flow), []).append(grounds[name].cost(packets))
    for flow in _FLOWS:
        for name in grounds:
            bare, here = measured[NO_RULES, flow], measured[name, flow]
            yield figure(TITLE, name, f"{flow}, ns", here, Unit.NANOSECONDS)
            yield figure(TITLE, name, flow, ratios(here, bare), Unit.RATIO)

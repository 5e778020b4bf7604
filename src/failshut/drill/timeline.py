"""A run in packets per 100 ms: what was sent, and of that what left the machine, and as what. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BIN_SECONDS = 0.1
# One number for each 100 ms since the capture began.
Bins = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run's packets by the time they were seen; every row has as many bins as the run took.

    `began` and `ended` are when the attack was begun and when it was done, in seconds since the capture began. `sent` is what
    programs handed to the kernel, `tunnel` the tunnel's transport on a cable, `allowed` what another allowance explains.
    """

    began: float = 0.0
    ended: float = 0.0
    sent: Bins = ()
    tunnel: Bins = ()
    allowed: Bins = ()
    leaked: Bins = ()

    @property
    def blocked(self) -> Bins:
        """What was sent and not seen on any cable.

        A packet that is sent as one bin ends is seen in the next: what is missing in a bin is looked for there first. Packets
        that no program sent (ARP, acknowledgements) count as seen, so that this is rather too little than too much.
        """
        rows = zip(self.sent, self.tunnel, self.allowed, self.leaked, strict=True)
        missing = [sent - tunnel - allowed - leaked for sent, tunnel, allowed, leaked in rows]
        for at in range(len(missing) - 1):
            late = min(max(missing[at], 0), max(-missing[at + 1], 0))
            missing[at] -= late
            missing[at + 1] += late
        return tuple(max(each, 0) for each in missing)


def timeline_from(fields: Mapping[str, Any]) -> Timeline:
    """Return a timeline from its JSON object."""
    rows = {name: tuple(fields[name]) for name in ("sent", "tunnel", "allowed", "leaked")}
    return Timeline(float(fields["began"]), float(fields["ended"]), **rows)


def binned(moments: Iterable[float], count: int, more: Mapping[int, int] | None = None) -> Bins:
    """Return how many moments (seconds) fall into each of `count` bins, and `more` by bin; what is later falls into the last."""
    bins = [0] * count
    for moment in moments:
        bins[_place(int(moment / BIN_SECONDS), count)] += 1
    for at, number in (more or {}).items():
        bins[_place(at, count)] += number
    return tuple(bins)


def _place(at: int, count: int) -> int:
    return min(max(at, 0), count - 1)

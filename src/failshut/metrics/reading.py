"""Reads this machine's numbers: the lock's, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.arming.armed.status import read_status
from failshut.host.runs import last_runs
from failshut.host.tunnels.wireguard import running_tunnels
from failshut.metrics.samples import Beside, Sample, samples
from failshut.server.peers import friendly_names, is_up


def read_samples() -> Iterator[Sample]:
    """Yield every sample of this moment."""
    tunnels = running_tunnels()
    yield from samples(read_status(), last_runs(), Beside(tunnels, friendly_names(), is_up(tunnels)))

"""A moment of this machine → samples of the metrics. Asks nothing itself: the moment is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from failshut.allowances.openings import opened
from failshut.arming.armed.status import Status
from failshut.host.runs import Run
from failshut.metrics import catalogue
from failshut.metrics.catalogue import Metric
from failshut.model.lock import LockState
from failshut.model.running import SESSION_LASTS, RunningTunnel

# What the lock's tables hold, by their family.
_LAYERS = {"inet": "ip", "arp": "arp", "netdev": "below_ip"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric; `labels` in the metric's order."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the lock: every running tunnel, the names of peers by interface and key, and whether a server is up.

    `server` is None on a machine that is none.
    """

    tunnels: Mapping[str, RunningTunnel] = field(default_factory=dict)
    names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    server: bool | None = None


def samples(status: Status, runs: Iterable[Run], beside: Beside) -> Iterator[Sample]:
    """Yield every sample of one moment."""
    yield Sample(catalogue.KNOWN, status.state is not LockState.UNKNOWN)
    if status.state is not LockState.UNKNOWN:
        yield from _of_lock(status)
    for name, tunnel in status.tunnels:
        yield Sample(catalogue.TUNNEL, tunnel is not None, (name,))
    if beside.server is not None:
        yield Sample(catalogue.SERVER, beside.server)
    yield from _of_peers({**beside.tunnels, **dict(status.tunnels)}, beside.names)
    for run in runs:
        yield Sample(catalogue.RUN_AT, run.at, (run.verb,))
        yield Sample(catalogue.RUN_OK, run.ok, (run.verb,))
        yield Sample(catalogue.RUN_LEAKS, run.leaks, (run.verb,))


def of_monitor(drifts: int, restored_ms: float | None) -> Iterator[Sample]:
    """Yield what only the monitor knows: how often it has put the lock back, and how long that took the last time."""
    yield Sample(catalogue.RESTORED, drifts)
    if restored_ms is not None:
        yield Sample(catalogue.RESTORED_IN, restored_ms / 1000)


def _of_lock(status: Status) -> Iterator[Sample]:
    yield Sample(catalogue.ARMED, bool(status.listing.tables))
    yield Sample(catalogue.DRIFT, status.state is LockState.DRIFT)
    yield Sample(catalogue.GUARDED, status.guarded_by)
    yield Sample(catalogue.WATCHED, status.watched)
    loaded = {family for family, _ in status.listing.tables}
    yield from (Sample(catalogue.LAYER, family in loaded, (layer,)) for family, layer in _LAYERS.items())
    if status.boot:
        yield Sample(catalogue.BOOT, status.boot.is_sound)
    for devices, held in ((status.guarded, True), (status.unguarded, False)):
        yield from (Sample(catalogue.UNDER_IP, held, (device,)) for device in devices)
    counts = status.counts
    for reason, packets, size in (
        ("local", counts.local, counts.local_bytes),
        ("forwarded", counts.forwarded, counts.forwarded_bytes),
        ("below_ip", counts.under_ip, counts.under_ip_bytes),
    ):
        yield Sample(catalogue.REFUSED, packets, (reason,))
        yield Sample(catalogue.REFUSED_BYTES, size, (reason,))
    yield Sample(catalogue.OPEN, sum(1 for _ in opened(status.listing.json_texts)))


def _of_peers(tunnels: Mapping[str, RunningTunnel | None], names: Mapping[tuple[str, str], str]) -> Iterator[Sample]:
    for name, tunnel in tunnels.items():
        peers = tunnel.peers if tunnel else ()
        for peer in peers:
            labels = (name, peer.key, ",".join(peer.allowed), names.get((name, peer.key), ""))
            yield Sample(catalogue.SENT, peer.sent, labels)
            yield Sample(catalogue.RECEIVED, peer.received, labels)
            yield Sample(catalogue.HANDSHAKE, peer.handshake_at, labels)
        fresh = sum(each.handshake_age is not None and each.handshake_age <= SESSION_LASTS for each in peers)
        yield Sample(catalogue.CONNECTED, fresh, (name,))

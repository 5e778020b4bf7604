"""Moments as the live view shows them."""

from __future__ import annotations

from ipaddress import ip_network

from failshut.allowances.openings import Open, To
from failshut.arming.armed.status import Status
from failshut.model.lock import LockState
from failshut.model.running import RunningPeer, RunningTunnel
from failshut.model.units import Port, Protocol
from failshut.read.counts import Blocked, Counts
from failshut.tui.snapshot import Snapshot
from failshut.watch.tally import Row, Sender

SITE = To(ip_network("192.0.2.7/32"), Protocol.TCP, Port(443))
_COUNTS = Counts(local=1204, blocked=(Blocked("198.51.100.9", "tcp", 443, 1000, 1180), Blocked("203.0.113.80", "udp", 53, 0, 24)))
_ROWS = (
    Row(Sender("firefox-esr", 2214, 1, "/user.slice"), "198.51.100.9", "tcp", 443, 37, 10.0, 20.0, "tracker.example"),
    Row(Sender("ntpd", 801, 0, "/system.slice/ntpsec.service"), "203.0.113.123", "udp", 123, 4, 10.0, 19.0, ""),
    Row(Sender(uid=65534), "2001:db8:7::7", "tcp", 80, 1, 12.0, 12.0, ""),
)


def tunnel(age: int | None, through: int = 0) -> RunningTunnel:
    peer = RunningPeer("203.0.113.10:51820", age, through, through // 3)
    return RunningTunnel("wg0", 51820, None, (peer,))


def locked(through: int = 0, opened: tuple[Open, ...] = (), listens: bool = True) -> Snapshot:
    status = Status(LockState.ARMED, tunnels=(("wg0", tunnel(12, through)),), counts=_COUNTS, guarded_by=True)
    return Snapshot(status, opened, _ROWS if listens else None)


def tunnel_down() -> Snapshot:
    return Snapshot(Status(LockState.ARMED, tunnels=(("wg0", None),), counts=_COUNTS, guarded_by=True), (), _ROWS)


def drifted() -> Snapshot:
    return Snapshot(
        Status(LockState.DRIFT, tunnels=(("wg0", tunnel(3)),), reason="the kernel's rules are not the armed ones"), (), ()
    )


def disarmed() -> Snapshot:
    return Snapshot(Status(LockState.DISARMED))


def unknown() -> Snapshot:
    return Snapshot(Status(LockState.UNKNOWN, reason="Operation not permitted (you must be root)"))

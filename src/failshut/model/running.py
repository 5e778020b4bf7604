"""A tunnel as it runs: its peers, their handshakes, and what went through."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.units import Mark

# WireGuard gives a session up after so many seconds without a handshake (REJECT_AFTER_TIME, whitepaper 6.1).
SESSION_LASTS = 180


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """One peer: its endpoint as wg prints it ("" for none), seconds since the last handshake, bytes.

    `handshake_age` is None without one, and where its time is still to come: the clock was set back.
    `handshake_at` is when that was, in seconds since 1970 (0: never); `key` its public key, `allowed` its AllowedIPs.
    """

    endpoint: str
    handshake_age: int | None
    received: int
    sent: int
    handshake_at: int = 0
    key: str = ""
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningTunnel:
    """A running WireGuard interface. `fwmark` is None when it is off.

    Another program's tunnel has no peers to show, but what its device has counted: bytes in, bytes out.
    """

    interface: str
    listen_port: int
    fwmark: Mark | None
    peers: tuple[RunningPeer, ...]
    counted: tuple[int, int] | None = None

    @property
    def handshake_age(self) -> int | None:
        """Seconds since the last handshake with any peer; None without one."""
        return min((each.handshake_age for each in self.peers if each.handshake_age is not None), default=None)

    @property
    def received(self) -> int:
        """Bytes from all peers."""
        return self.counted[0] if self.counted else sum(each.received for each in self.peers)

    @property
    def sent(self) -> int:
        """Bytes to all peers."""
        return self.counted[1] if self.counted else sum(each.sent for each in self.peers)

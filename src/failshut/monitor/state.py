"""The one value that the monitor keeps. Pure, and frozen: whoever shows it can hold on to the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from failshut.model.lock import LockState


class Carries(StrEnum):
    """Whether a tunnel carries data."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Reason(StrEnum):
    """Why a tunnel carries nothing, in the words that the user reads."""

    NONE = ""
    NO_DEVICE = "its device is gone"
    NOT_UP = "its device is down"
    NO_NETWORK = "no network: there is no route to its server"
    BLOCKED = "its server's address is not the one that was armed, and the lock refuses it"
    NO_HANDSHAKE = "its server does not answer"
    NO_ROUTE = "nothing is routed into it"
    NO_DNS = "handshakes go through, but no resolver answers"


class Kind(StrEnum):
    """What an event is about; the journal's field FAILSHUT_EVENT."""

    STARTED = "started"
    DRIFT = "drift"
    RESTORED = "restored"
    DEVICE = "device"
    TUNNEL_DOWN = "tunnel-down"
    TUNNEL_UP = "tunnel-up"
    REFUSED = "refused"
    REFRESH = "refresh"
    CLOCK = "clock"
    TROUBLE = "trouble"
    STOPPED = "stopped"

    @property
    def priority(self) -> int:
        """How grave it is, as in syslog(3)."""
        grave = {Kind.DRIFT: 4, Kind.TUNNEL_DOWN: 4, Kind.TROUBLE: 4, Kind.CLOCK: 5, Kind.RESTORED: 5, Kind.TUNNEL_UP: 5}
        return grave.get(self, 6)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `at` (seconds since 1970). `fields` are for machines: names in small letters, no secrets."""

    kind: Kind
    at: float
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel's health since `since` (seconds since 1970). `handshake_at` is 0 without one; bytes as WireGuard counts them."""

    name: str
    carries: Carries = Carries.UNKNOWN
    reason: Reason = Reason.NONE
    since: float = 0
    handshake_at: int = 0
    received: int = 0
    sent: int = 0
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the monitor knows now."""

    lock: LockState = LockState.UNKNOWN
    reason: str = ""
    tunnels: tuple[Tunnel, ...] = ()
    # Underlay devices that there are, those of them with the layer under IP, and those that came after arming.
    underlay: tuple[str, ...] = ()
    under_ip: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    # How often the lock was changed by others and put back since the monitor started, and how long the last time took.
    drifts: int = 0
    restored_ms: float | None = None
    # What the monitor itself lacks: a full disk, no desktop.
    troubles: tuple[str, ...] = ()
    # The last of them, oldest first.
    events: tuple[Event, ...] = ()

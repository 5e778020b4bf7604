"""Which events a person at the machine is told of, in what words, and how often. Pure: the time is given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from failshut.monitor.state import Event, Kind

# At most so many of a kind in so many seconds; what is more is counted, and said with the next.
MOST, WITHIN = 3, 60.0
_NORMAL, _CRITICAL = 1, 2
# Smaller numbers are services' (login.defs(5), UID_MIN).
_FIRST_PERSON = 1000


@dataclass(frozen=True, slots=True)
class Notice:
    """What a desktop shows. `slot` names what it replaces: a tunnel that is back takes the place of the one that went down."""

    slot: str
    title: str
    body: str
    urgency: int = _NORMAL
    # Whose sessions show it; None: everybody's.
    uid: int | None = None


@dataclass(slots=True)
class Limit:
    """Lets a few of each kind through and counts the rest."""

    most: int = MOST
    within: float = WITHIN
    _passed: dict[str, deque[float]] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)

    def admit(self, kind: str, now: float) -> int | None:
        """Return how many were held back before this one, None when it is held back too. `now` is a clock that never jumps."""
        passed = self._passed.setdefault(kind, deque())
        while passed and passed[0] <= now - self.within:
            passed.popleft()
        if len(passed) >= self.most:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        passed.append(now)
        return self._held.pop(kind, 0)


def notice_of(event: Event) -> Notice | None:
    """Return what to show of an event; None for what only the journal needs."""
    name = event.fields.get("tunnel", "")
    match event.kind:
        case Kind.TUNNEL_DOWN:
            return Notice(
                f"tunnel {name}", "Locked: the tunnel is down", f"{event.message}. Nothing leaves this machine.", _CRITICAL
            )
        case Kind.TUNNEL_UP:
            return Notice(f"tunnel {name}", "The tunnel is back", event.message)
        case Kind.DRIFT:
            return Notice("lock", "The lock was changed, and put back", event.message, _CRITICAL)
        case Kind.REFUSED:
            # Where one user wanted to go is no other's business; a service's is everybody's who sits here.
            uid = int(event.fields.get("uid", "0"))
            return Notice(f"refused {uid}", "Something new was refused", event.message, uid=uid if uid >= _FIRST_PERSON else None)
        case Kind.TROUBLE:
            return Notice("monitor", "failshut needs attention", event.message)
        case _:
            return None


def with_held(message: str, held: int) -> str:
    """Return a message with the number of those like it that were not said."""
    return f"{message} ({held} more like it were not said)" if held else message

"""Whether a tunnel carries data: one look is judged, and only several looks that agree change the state. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from failshut.model.running import SESSION_LASTS
from failshut.monitor.state import Carries, Reason, Tunnel

# Looks in a row that must agree: one lost handshake is no outage, one that gets through on a bad line no recovery.
BAD_LOOKS, GOOD_LOOKS = 2, 2


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a tunnel found.

    `handshake_age` is in seconds, None without any handshake or for a tunnel that is not WireGuard. What was not asked because
    it was not needed is None too: whether there is a route to the server, whether the lock refused packets to it since the last
    look, whether a packet for the world behind the tunnel is routed into it, whether a resolver answered.
    """

    there: bool = True
    up: bool = True
    wireguard: bool = True
    handshake_age: float | None = None
    handshake_at: int = 0
    received: int = 0
    sent: int = 0
    endpoint: str = ""
    network: bool | None = None
    refused: bool | None = None
    routed: bool | None = None
    resolved: bool | None = None

    @property
    def fresh(self) -> bool:
        """Whether the session still carries data. A tunnel that is not WireGuard has none to show."""
        return not self.wireguard or (self.handshake_age is not None and self.handshake_age < SESSION_LASTS)


@dataclass(frozen=True, slots=True)
class Health:
    """A tunnel's state and the looks that speak against it."""

    tunnel: Tunnel
    against: int = 0

    @property
    def is_calm(self) -> bool:
        """Whether the next look may wait."""
        return self.tunnel.carries is Carries.UP and not self.against


def judge(look: Look) -> Reason:
    """Return why the tunnel carries nothing, a cause before what follows from it; `Reason.NONE` when nothing speaks against it."""
    found = (
        (Reason.NO_DEVICE, not look.there),
        (Reason.NOT_UP, not look.up),
        (Reason.NO_NETWORK, not look.fresh and look.network is False),
        (Reason.BLOCKED, not look.fresh and look.refused is True),
        (Reason.NO_HANDSHAKE, not look.fresh),
        (Reason.NO_ROUTE, look.routed is False),
        (Reason.NO_DNS, look.resolved is False),
    )
    return next((reason for reason, is_so in found if is_so), Reason.NONE)


def step(health: Health, look: Look, now: float) -> Health:
    """Return the health after one more look, at `now` (seconds since 1970)."""
    reason = judge(look)
    seen = replace(health.tunnel, handshake_at=look.handshake_at, received=look.received, sent=look.sent, endpoint=look.endpoint)
    told = Carries.DOWN if reason else Carries.UP
    if told is seen.carries:
        # The same state for another reason: the reason follows at once, the state has not changed.
        return Health(replace(seen, reason=reason))
    against = health.against + 1
    # A device that is not there needs no second look.
    needed = {Carries.UP: GOOD_LOOKS, Carries.DOWN: BAD_LOOKS}[told] if reason not in (Reason.NO_DEVICE, Reason.NOT_UP) else 1
    if seen.carries is Carries.UNKNOWN and told is Carries.UP:
        needed = 1
    if against < needed:
        return Health(seen, against)
    return Health(replace(seen, carries=told, reason=reason, since=now))

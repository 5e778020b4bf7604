"""A status in words: the same in `status`, in the live view and in notices."""

from __future__ import annotations

from failshut.arming.armed.status import Boot, Status
from failshut.model.lock import LockState
from failshut.model.running import SESSION_LASTS, RunningTunnel


def tunnel_words(tunnel: RunningTunnel | None) -> str:
    """Return whether a tunnel is up, how old its last handshake is, and what went through."""
    if tunnel is None:
        return "down"
    amounts = f"{_amount(tunnel.received)} in, {_amount(tunnel.sent)} out"
    if tunnel.counted:
        return f"up, {amounts}; it is not WireGuard, and whether its server answers is not known"
    age = tunnel.handshake_age
    if age is None and any(each.handshake_at for each in tunnel.peers):
        return f"up, {amounts}; its last handshake is in the future: the clock was set back"
    if age is None:
        return "up, no handshake yet"
    stale = " (stale)" if age > SESSION_LASTS else ""
    return f"up, last handshake {age} s ago{stale}, {amounts}"


def _amount(count: int) -> str:
    """Return a number of bytes in decimal units, as wg does not."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def guard_words(status: Status) -> str:
    """Return whether another tool's flush would open the machine."""
    return (
        "stands by: what flushes the firewall opens nothing"
        if status.guarded_by
        else "none: a flush by another tool opens the machine"
    )


def boot_words(boot: Boot) -> str:
    """Return what the next boot will do."""
    if not boot.is_sound:
        return "not sound: " + ", ".join(
            (*(f"{each} is damaged" for each in boot.damaged), *(f"{each} is gone or changed" for each in boot.missing))
        )
    if boot.loaded_by == "systemd":
        return "loaded before the network, sealed"
    return "not loaded: systemd does not run here"


def headline(status: Status) -> tuple[str, str]:
    """Return the state in one or two words, and what it means in a sentence."""
    if status.state is LockState.DISARMED:
        return "OPEN", "nothing is held back: `failshut arm` turns the lock on"
    if status.state is LockState.UNKNOWN:
        return "UNKNOWN", status.reason
    if status.state is LockState.DRIFT:
        return "DRIFT", status.reason or "the kernel's rules are not the armed ones"
    names = ", ".join(name for name, _ in status.tunnels)
    if any(_is_alive(tunnel) for _, tunnel in status.tunnels):
        return "LOCKED", f"nothing leaves but through {names}"
    return "LOCKED, TUNNEL DOWN", f"nothing leaves until {names} is back"


def _is_alive(tunnel: RunningTunnel | None) -> bool:
    if tunnel and tunnel.counted:
        return True
    age = tunnel.handshake_age if tunnel else None
    return age is not None and age <= SESSION_LASTS

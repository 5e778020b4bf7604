"""The kernel's log of what is refused, for a time: the guide's LOG rule as a switch, which the kernel itself turns off."""

from __future__ import annotations

from failshut.allowances.errors import RefusedError
from failshut.allowances.outside import why_not
from failshut.host.filter import programs
from failshut.model.timed import LOGGING

_FAMILIES = ("ipv4", "ipv6")


def start(seconds: int) -> None:
    """Log what is refused from now on, for `seconds`; what is logged already gets the new end. Raises `RefusedError`."""
    _must_be_there()
    done = programs.admit([(LOGGING, each) for each in _FAMILIES], seconds=seconds)
    if not done.ok:
        raise RefusedError(f"the kernel does not take it: {done.complaint}")


def stop() -> bool:
    """Log no more; False when nothing was logged. Raises `RefusedError`."""
    was = left() is not None
    done = programs.empty([LOGGING])
    if not done.ok:
        raise RefusedError(f"the kernel does not end it: {done.complaint}", help="run it with sudo")
    return was


def left() -> int | None:
    """Return the seconds for which it is logged still; None when it is not. Raises `RefusedError`."""
    return max((each.seconds for each in _must_be_there() if each.seconds is not None), default=None)


def _must_be_there() -> tuple[programs.Element, ...]:
    found = programs.listed(LOGGING)
    if found is None:
        raise why_not("the armed lock has no switch for the log", "it was armed by an older failshut: `failshut arm`")
    return found

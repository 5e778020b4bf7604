"""The names of the sets that are filled while the lock stands: by `allow`, `exec`, `portal`, `refresh`. Light, for `status`."""

from __future__ import annotations

# `ipv4` and `ipv6` are in it while any of the timed allowances is: one look-up spares every packet the others.
TIMED = "timed"
TIMED_LAN, TIMED_TO, TIMED_USER = "timed-lan", "timed-to", "timed-user"
# An endpoint's new address on probation, and the server that our own probe asks.
CANDIDATES, PROBE = "candidates", "probe"
# Holds `ipv4` and `ipv6` while what is refused is written into the kernel's log.
LOGGING = "logging"
OUTSIDE_PROGRAMS, PORTAL_PROGRAMS, PORTAL_DNS = "outside-programs", "portal-programs", "portal-dns"

# In seconds, how long each is open at most: what `allow` opens (longer is no allowance for a time any more: it belongs into the
# policy), a sign-in at a portal, an endpoint's new address, and the server that our own probe asks.
LONGEST, LONGEST_SIGN_IN, ON_PROBATION, PROBED = 86400, 300, 30, 10


def gate_name(allowance: str) -> str:
    """Return the set that opens an allowance on demand."""
    return f"open-{allowance}"


def programs_name(allowance: str) -> str:
    """Return the set that holds the control group of a pinned exception."""
    return f"programs-{allowance}"

"""The names of the sets that are filled while the lock stands: by `allow`, `exec`, `portal`, `refresh`. Light, for `status`."""

from __future__ import annotations

# `ipv4` and `ipv6` are in it while any of the timed allowances is: one look-up spares every packet the others.
TIMED = "timed"
TIMED_LAN, TIMED_TO, TIMED_USER = "timed-lan", "timed-to", "timed-user"
# An endpoint's new address on probation, and the server that our own probe asks.
CANDIDATES, PROBE = "candidates", "probe"
OUTSIDE_PROGRAMS, PORTAL_PROGRAMS, PORTAL_DNS = "outside-programs", "portal-programs", "portal-dns"


def gate_name(allowance: str) -> str:
    """Return the set that opens an allowance on demand."""
    return f"open-{allowance}"

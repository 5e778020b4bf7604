"""The lock in one word."""

from __future__ import annotations

from enum import StrEnum


class LockState(StrEnum):
    """Whether the lock is on. DRIFT: something is not as it was armed; UNKNOWN: the kernel can't be asked."""

    ARMED = "armed"
    DISARMED = "disarmed"
    DRIFT = "drift"
    UNKNOWN = "unknown"

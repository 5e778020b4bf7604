"""The lock's names in the kernel, and its state in one word."""

from __future__ import annotations

from enum import StrEnum

# Of the tables of every family that hold the lock, and of those that stand behind them (docs/adr/0006).
LOCK_NAME, GUARD_NAME = "failshut", "failshut-guard"


class LockState(StrEnum):
    """Whether the lock is on. DRIFT: something is not as it was armed; UNKNOWN: the kernel can't be asked."""

    ARMED = "armed"
    DISARMED = "disarmed"
    DRIFT = "drift"
    UNKNOWN = "unknown"

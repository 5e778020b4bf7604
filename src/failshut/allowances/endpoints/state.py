"""What became of a tunnel whose server was looked for."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What became of a tunnel, in one word."""

    WORKS = "works"
    FAILED_OVER = "failed-over"
    PINNED = "pinned"
    STALE = "stale"
    DOWN = "down"
    UNKNOWN = "not-wireguard"

    @property
    def is_change(self) -> bool:
        """Whether anything is different from before."""
        return self in (State.FAILED_OVER, State.PINNED)

    @property
    def is_well(self) -> bool:
        """Whether the tunnel works now, or is none of ours to keep."""
        return self not in (State.STALE, State.DOWN)

"""How signing in at a portal ended."""

from __future__ import annotations

from enum import StrEnum


class Ending(StrEnum):
    """How it ended."""

    NO_PORTAL = "no-portal"
    NO_ANSWER = "no-answer"
    SIGNED_IN = "signed-in"
    BROWSER_ENDED = "browser-ended"
    TIME_UP = "time-up"
    STOPPED = "stopped"

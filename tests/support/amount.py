"""How much a test tries that could try more: FAILSHUT_THOROUGH=1 tries all of it."""

from __future__ import annotations

import os


def amount(*, usually: int, thoroughly: int) -> int:
    """Return how many examples, or every how manieth, a test takes this time."""
    return thoroughly if os.environ.get("FAILSHUT_THOROUGH") else usually

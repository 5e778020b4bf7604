"""How much is tried. `make test` is what each change has to pass; FAILSHUT_THOROUGH=1, `make test-thorough`, tries all there is."""

from __future__ import annotations

import os

import pytest

THOROUGHLY = bool(os.environ.get("FAILSHUT_THOROUGH"))
# Marks what takes minutes, and has a shorter test of the same kind beside it.
thorough = pytest.mark.skipif(not THOROUGHLY, reason="takes minutes: FAILSHUT_THOROUGH=1, as of `make test-thorough`, runs it")


def amount(*, usually: int, thoroughly: int) -> int:
    """Return how many examples, or every how manieth, a test takes this time."""
    return thoroughly if THOROUGHLY else usually

"""What the tests of the monitor share."""

from __future__ import annotations

import pytest

from grouped import needs_programs
from watched import Watched


@pytest.fixture
def watched():
    """An armed machine with a working tunnel and the monitor up; gone when the test ends."""
    needs_programs()
    with Watched() as private:
        private.arm()
        private.watch_lock()
        yield private

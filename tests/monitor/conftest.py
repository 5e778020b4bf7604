"""What the tests of the monitor share."""

from __future__ import annotations

import pytest

from grouped import needs_programs
from watched import Watched


@pytest.fixture(scope="module")
def lab():
    """A connected machine whose tunnel works, armed."""
    needs_programs()
    with Watched() as private:
        private.arm()
        yield private


@pytest.fixture
def watched(lab):
    """The lab with the monitor up, as if nothing had been before."""
    lab.watch_lock()
    yield lab
    lab.tidy()

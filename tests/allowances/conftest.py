import pytest

from grouped import Grouped, needs_programs


@pytest.fixture
def grouped():
    """A machine with a tunnel and control groups of its own; gone when the test ends."""
    needs_programs()
    with Grouped() as private:
        yield private

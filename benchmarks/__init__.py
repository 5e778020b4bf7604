"""Measures; asserts nothing. Each number beside what people use now, in private network namespaces."""

import sys
from pathlib import Path

# The labs and machines of the tests serve here too.
sys.path[:0] = [str(Path(__file__).parents[1] / each) for each in ("tests", "tests/support", "tests/watch", "tools")]

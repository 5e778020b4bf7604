"""Colour is there where it was asked for, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

ESCAPE = "\x1b["


@pytest.mark.parametrize(("asked", "is_there"), [("always", True), ("never", False), ("auto", False)])
def test_a_pipe_gets_colour_only_where_it_was_asked_for(asked, is_there):
    """`failshut check --color always | less -R`."""
    argv = (sys.executable, "-m", "failshut", "check", "--policy", "/no/such/policy", f"--color={asked}")
    said = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert "P001" in said.stderr
    assert (ESCAPE in said.stderr) == is_there

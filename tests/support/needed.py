"""What a test can't do without: it is skipped, with the reason, where that is missing."""

from __future__ import annotations

import os

import pytest

from failshut.host.run import find


def needs(*programs: str) -> None:
    """Skip unless every program is installed."""
    for program in programs:
        if find(program) is None:
            pytest.skip(f"needs {program}: run `make setup`")


def needs_root_and(*programs: str) -> None:
    """Skip unless this is root, who may make namespaces, and every program is installed."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network and mount namespaces")
    needs(*programs)

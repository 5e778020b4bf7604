"""A command in a fork of an interpreter does and says what it does and says as a program of its own (tests/support/forked.py)."""

from __future__ import annotations

import pytest

from amount import THOROUGHLY
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

# One that is answered and one that is refused, a help's text, a mistake, and what asks and is told no.
COMMANDS = ("status", "--help", "armm", "check --policy /none", "plan --exit-code", "render nft", "disarm")


@pytest.mark.skipif(THOROUGHLY, reason="where everything is tried no command is forked")
def test_a_forked_command_is_the_program(sandbox):
    settings = {"COLUMNS": "100", "NO_COLOR": "1"}
    sandbox.adopt_example()
    laid = {}
    # `env` before it: a program of its own.
    for name, start in {"forked": (), "started": ("env",)}.items():
        assert sandbox.run(*start, *FAILSHUT, "arm").returncode == 0
        said = [sandbox.run(*start, *FAILSHUT, *each.split(), stdin="n\n", env=settings) for each in COMMANDS]
        laid[name] = (sandbox.fingerprint(), [(each.returncode, each.stdout, each.stderr) for each in said])
        assert sandbox.run(*start, *FAILSHUT, "disarm", "--yes").returncode == 0

    assert laid["forked"] == laid["started"]

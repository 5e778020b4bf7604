"""A press of Tab: what it offers, and what it costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from failshut.cli.main import VERBS

RUN = "import sys; sys.argv = ['failshut']; from failshut.cli.main import main; main()"
# What a verb's module brings along.
_HEAVY = """
import atexit, sys
atexit.register(lambda: print(*sorted(each for each in sys.modules if each.startswith("failshut.cli."))))
"""


def complete(*words: str, heavy: str = "") -> list[str]:
    """Return what the program offers for the last of the words."""
    environment = {
        **os.environ,
        "_FAILSHUT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run((sys.executable, "-c", heavy + RUN), env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_verb_is_offered_and_none_is_imported():
    *offered, imported = complete("failshut", "", heavy=_HEAVY)

    assert [each.removeprefix("plain,") for each in offered] == list(VERBS)
    assert imported.split() == ["failshut.cli.main", "failshut.cli.session"]


def test_a_verbs_options_are_offered():
    assert "plain,--confirm-within" in complete("failshut", "arm", "--c")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_takes_its_script(shell):
    """The package's own files evaluate what this says."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    environment = {**os.environ, "_FAILSHUT_COMPLETE": f"{shell}_source"}
    script = subprocess.run((sys.executable, "-c", RUN), env=environment, capture_output=True, text=True, check=True).stdout
    checked = subprocess.run((shell, "-n"), input=script, capture_output=True, text=True, check=False)

    assert "_FAILSHUT_COMPLETE" in script
    assert checked.returncode == 0, checked.stderr

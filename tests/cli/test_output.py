"""What a shell does to a program's output: closed, full, gone. Never a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAILSHUT = f"{sys.executable} -m failshut"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("verb", ["status", "status --json", "check", "--help"])
@pytest.mark.parametrize("where", [">&-", ">/dev/full", "| true", "2>&- >&-"])
def test_output_that_can_not_be_written_is_no_traceback(verb, where):
    """Closed, full or read by nobody."""
    done = shell(f"{FAILSHUT} {verb} {where}")

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("device", ["lo", "wg0", "a b", 'e"th'])
def test_only_an_underlay_device_can_be_guarded(device, tmp_path):
    """A chain on loopback or the tunnel would cut it off."""
    policy = tmp_path / "p.toml"
    policy.write_text('[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\n')
    argv = [sys.executable, "-m", "failshut", "--policy", str(policy), "render", "nft", "--device", device]

    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unknown_verb_is_answered_with_the_nearest():
    """A slip of the finger costs one glance."""
    done = shell(f"{FAILSHUT} stauts")

    assert done.returncode == 2
    assert "status" in done.stderr

"""A booted machine is gone when its test is, however that ends: processes, mounts, cgroups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from boot import roots
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

TESTS = Path(__file__).parents[1]
# Boots, says which cgroup the machine's processes are in, and waits to be killed.
_SCRIPT = """
import sys
from pathlib import Path
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router
with Room() as room, Router(room) as router, Machine(room, router, Path(sys.argv[1]), Address.STATIC) as machine:
    machine.boot()
    print(room.cgroup, flush=True)
    sys.stdin.read()
"""


def processes_of(cgroup: Path) -> list[int]:
    """Return every process in the cgroup or under it."""
    return [int(each) for file in cgroup.rglob("cgroup.procs") for each in file.read_text().split()]


def cgroups_named(name: str) -> list[Path]:
    return [each for each in Path("/sys/fs/cgroup").rglob(f"{name}*") if each.is_dir()]


def test_a_killed_test_leaves_nothing(tree_of):
    tree = tree_of(roots.BOOKWORM)
    mounts = Path("/proc/self/mountinfo").read_text()
    test = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(tree)],
        env={"PYTHONPATH": f"{TESTS}:{roots.REPOSITORY}/tools:{roots.REPOSITORY}/src", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    cgroup = Path(test.stdout.readline().strip())
    processes = processes_of(cgroup)
    test.kill()
    test.communicate()

    assert len(processes) > 5, "the machine was not seen running"
    assert until(lambda: not any(Path(f"/proc/{each}").exists() for each in processes), within=10)
    assert until(lambda: not cgroups_named(cgroup.name), within=10)
    assert Path("/proc/self/mountinfo").read_text() == mounts

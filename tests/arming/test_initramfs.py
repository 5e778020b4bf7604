"""The lock in the initramfs: asked for, written, followed and taken out. What initramfs-tools makes of it is booted in tests/vm."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from failshut.boot.artefacts import initramfs_files
from failshut.boot.places import INITRAMFS_HOOK
from sandbox import POLICY

pytestmark = pytest.mark.lab

CALLS = "/run/update-initramfs-calls"
# Stands in for initramfs-tools, which would write the initramfs of whoever runs the tests; what it is told, it writes down.
_STAND_IN = f'#!/bin/sh\necho "$*" >> {CALLS}\n[ ! -e /run/broken ] || {{ echo "no space left" >&2; exit 1; }}\n'


@pytest.fixture
def machine(sandbox):
    """A machine with initramfs-tools, and a policy that wants the lock in the initramfs."""
    sandbox.adopt_example()
    sandbox.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    over = "lowerdir=/usr/sbin,upperdir=/run/sbin,workdir=/run/sbin-work"
    assert (
        sandbox.run("sh", "-c", f"mkdir /run/sbin /run/sbin-work && mount -t overlay overlay -o {over} /usr/sbin").returncode == 0
    )
    sandbox.write("/usr/sbin/update-initramfs", _STAND_IN)
    sandbox.run("chmod", "755", "/usr/sbin/update-initramfs")
    sandbox.run("mkdir", "-p", "/etc/initramfs-tools")
    return sandbox


def calls(machine) -> list[str]:
    return machine.read(CALLS).splitlines()


def are_there(machine) -> bool:
    return all(machine.run("test", "-e", each.path).returncode == 0 for each in initramfs_files())


def arm(machine) -> None:
    done = machine.failshut("arm")
    assert done.returncode == 0, done.stderr


def test_plan_says_that_the_initramfs_is_written_anew_and_writes_nothing(machine):
    plan = machine.failshut("plan")

    assert "update-initramfs -u -k all" in plan.stdout
    assert INITRAMFS_HOOK in plan.stdout
    assert not calls(machine)


def test_arming_has_the_initramfs_written_once_and_again_only_for_another_lock(machine):
    arm(machine)
    assert are_there(machine)
    assert calls(machine) == ["-u -k all"]

    assert not json.loads(machine.failshut("plan", "--json").stdout)["rebuilds_initramfs"]
    arm(machine)
    assert len(calls(machine)) == 1

    machine.write("/etc/failshut/failshut.toml", POLICY.replace("50.0/24", "51.0/24") + "[boot]\ninitramfs = true\n")
    arm(machine)
    assert len(calls(machine)) == 2


@pytest.mark.parametrize("way", ["disarmed", "no longer asked for"])
def test_it_is_taken_out_again(machine, way):
    arm(machine)
    if way == "disarmed":
        assert machine.failshut("disarm", "--yes").returncode == 0
    else:
        machine.write("/etc/failshut/failshut.toml", POLICY)
        assert "without the lock" in machine.failshut("plan").stdout
        arm(machine)

    assert not any(machine.run("test", "-e", each.path).returncode == 0 for each in initramfs_files())
    assert len(calls(machine)) == 2


def test_an_initramfs_that_cannot_be_written_undoes_the_arming(machine):
    machine.write("/run/broken", "")

    done = machine.failshut("arm")

    assert done.returncode == 1
    assert "no space left" in done.stderr
    assert json.loads(machine.failshut("status", "--json").stdout)["state"] == "disarmed"
    assert not are_there(machine)


def test_one_that_cannot_be_written_does_not_keep_the_lock_on(machine):
    """An old initramfs with a lock in it sees that the machine is disarmed, and lets it go."""
    arm(machine)
    machine.write("/run/broken", "")

    done = machine.failshut("disarm", "--yes")

    assert done.returncode == 0, done.stderr
    assert "the old initramfs stays" in done.stderr
    assert json.loads(machine.failshut("status", "--json").stdout)["state"] == "disarmed"


def test_without_initramfs_tools_it_is_refused_and_nothing_is_changed(machine):
    machine.run("rm", "/usr/sbin/update-initramfs")

    done = machine.failshut("arm")

    assert done.returncode == 1
    assert "install initramfs-tools" in done.stderr
    assert json.loads(machine.failshut("status", "--json").stdout)["state"] == "disarmed"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_what_an_initramfs_runs():
    for each in initramfs_files():
        if each.text.startswith("#!/bin/sh"):
            done = subprocess.run(["shellcheck", "--shell=dash", "-"], input=each.text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{each.path}\n{done.stdout}"

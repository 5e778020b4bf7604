"""The package's own tests, as Debian runs them: by autopkgtest, which installs what was built on a machine made for that."""

from __future__ import annotations

import re

import pytest

from amount import thorough
from boot.machine import Address, Machine
from boot.packages import bring, package, snapshot
from boot.room import Room
from boot.roots import REPOSITORY, TRIXIE, WORKSHOP
from boot.router import Router

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),
    thorough,
]


@pytest.mark.parametrize("root", [WORKSHOP, TRIXIE], ids=lambda each: each.suite)
def test_autopkgtest_passes_on_a_machine(tree_of, root):
    """By its runner for the machine it is on; the test wants a whole one, and root."""
    with Room() as room, Router(room) as router, Machine(room, router, tree_of(root), Address.STATIC) as machine:
        machine.remove("/usr/local/bin/failshut")
        machine.remove("/etc/failshut/failshut.toml")
        machine.systemctl_offline("disable", "noise")
        room.do("sh", "-c", 'mkdir -p "$2/opt/source" && cp -r "$1" "$2/opt/source/debian"', "sh", *_places(machine))
        # Debian's archive is not asked: everything that the package depends on is there.
        machine.write("/etc/apt/sources.list", "")
        machine.write("/opt/source/debian/changelog", _CHANGELOG)
        # Says that it is built.
        machine.write("/opt/source/debian/files", "")
        built = bring(machine, package())
        machine.boot()
        # The newer runner no longer takes the machine that it is on for one of its own.
        own = "--ignore-restrictions=isolation-machine"
        done = machine.run("autopkgtest", own, "--no-built-binaries", built, "/opt/source", "--", "null", timeout=600)
        assert done.ok, f"{done.out}\n{done.err}"
        assert re.search(r"^installed +PASS", done.out + done.err, re.MULTILINE), f"{done.out}\n{done.err}"
        assert not [each for each in snapshot(machine) if "/etc/failshut/armed" in each]


def _places(machine: Machine) -> tuple[str, str]:
    return str(REPOSITORY / "packaging/debian"), machine.disk


_CHANGELOG = (
    "failshut (0.1.0) unstable; urgency=medium\n\n  * As built.\n\n -- Nobody <n@example.com>  Sun, 01 Nov 2026 00:00:00 +0000\n"
)

"""An image made by `render image` boots locked, with no program of ours in it, and is taken over by the first `arm`."""

from __future__ import annotations

import json

import pytest

from boot.living import UNARMED, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address, Machine
from boot.roots import BOOKWORM, LIBRARY, REPOSITORY, SOURCE
from boot.wire import DEVICE
from failshut.host.run import Result

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
by_dhcp = pytest.mark.parametrize("machine", [Address.DHCP], indirect=True, ids=["dhcp"])
on_bookworm = pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])


@pytest.fixture
def tree(request, tree_of):
    return tree_of(request.param)


def render(machine: Machine, *words: str) -> Result:
    """Run `failshut render image` in the root of a machine that is off, as an image's builder does."""
    room, source = machine.room, f"{machine.disk}{SOURCE}"
    room.do("mount", "--bind", f"{REPOSITORY}/src", source)
    program = ("env", f"PYTHONPATH={SOURCE}:{LIBRARY}", "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "failshut")
    done = room.run("chroot", machine.disk, *program, "render", "image", "-o", "/", *words, timeout=120)
    room.do("umount", source)
    return done


@by_dhcp
@on_bookworm
def test_an_image_boots_locked_without_failshut_in_it(machine):
    """The control is the same disk's boot before."""
    wrapper = machine.read("/usr/local/bin/failshut")
    with machine.router.wire.phase(UNARMED):
        machine.boot()
        use(machine)
        machine.power_off()
    machine.remove("/usr/local/bin/failshut")

    made = render(machine, "--device", DEVICE, "--json")

    assert made.ok, made.complaint
    assert json.loads(made.out)["under_ip"] == [DEVICE]
    assert "failshut is not in the image" in made.out
    with machine.router.wire.phase("the image's first boot"):
        assert machine.boot() == "running", machine.journal()
        use(machine)
        assert "the lock is on (current)" in machine.journal()
    with machine.router.wire.phase("tunnel down"):
        assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
        machine.hear_noise()
        assert machine.run("systemctl", "start", "wg-quick@wg0").ok
    with machine.router.wire.phase("with failshut, armed anew and off again"):
        machine.write("/usr/local/bin/failshut", wrapper)
        assert machine.run("chmod", "755", "/usr/local/bin/failshut").ok
        assert (status(machine)["state"], status(machine)["reason"]) == ("armed", "")
        again = machine.run("failshut", "arm")
        assert again.ok, again.complaint
        machine.hear_noise()
        assert status(machine)["monitor"]
    assert_that_nothing_leaked_once_armed(machine)


@by_dhcp
@on_bookworm
def test_an_image_of_a_policy_with_a_mistake_is_not_written(machine):
    unnamed = render(machine, "--device", "wg0")
    policy = machine.read("/etc/failshut/failshut.toml")
    machine.write("/etc/failshut/failshut.toml", policy.replace("dhcp = true", "dhcp = 3"))
    refused = render(machine, "--device", DEVICE)

    assert (refused.code, unnamed.code) == (2, 2)
    assert "wg0 is no underlay device" in unnamed.err
    assert "failshut.toml:5:" in refused.err
    assert machine.read("/etc/failshut/load") == ""

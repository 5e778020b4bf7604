"""Real podman: a container holds the lock, another joins it and floods while the first is killed, stopped, started again."""

from __future__ import annotations

import pytest

from boot.room import Room
from boot.router import Router
from container.lab import KINDS, Lab
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture
def lab(image):
    with Room() as room, Router(room) as router:
        yield Lab(room, router, image)


def test_without_the_lock_the_container_that_joined_leaks_every_kind(lab):
    lab.start_bare()
    lab.join()
    lab.flood()
    lab.podman.do("kill", "--signal=KILL", "vpn")
    lab.flood()
    assert set(lab.router.wire.stop(lab.router.case).by_kind) >= KINDS


def test_nothing_leaves_while_the_first_is_killed_stopped_and_started_again(lab):
    lab.start_vpn()
    assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
    lab.join()
    lab.carries()
    wire = lab.router.wire
    with wire.phase("the tunnel's program killed"):
        lab.kill_the_tunnel()
        lab.flood()
        lab.carries()
    with wire.phase("the tunnel taken down"):
        lab.podman.do("exec", "vpn", "ip", "link", "set", "wg0", "down")
        lab.flood()
    with wire.phase("killed"):
        lab.podman.do("kill", "--signal=KILL", "vpn")
        lab.flood()
    with wire.phase("started again"):
        lab.podman.do("start", "vpn")
        lab.flood()
        lab.carries()
    with wire.phase("restarted"):
        lab.podman.do("restart", "vpn")
        lab.carries()
    with wire.phase("stopped"):
        lab.podman.do("stop", "vpn")
        lab.flood()
    report = wire.stop(lab.router.case)
    assert not report.leaks, str(report)
    assert report.allowed

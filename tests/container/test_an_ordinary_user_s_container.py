"""Real podman without root: the lock in a user's own namespace, whose way out is slirp4netns, captured behind it."""

from __future__ import annotations

import pytest

from boot.room import Room
from boot.router import Router
from container.lab import CLOSED, KINDS, OPEN, PUBLISHED, VARIABLES, Lab
from container.podman import Rootless
from failshut.drill.network.wait import until
from needed import needs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
# slirp4netns sends by sockets of its own, even what came in frames with a forged source; other protocols of IP end in it.
PASSED_ON = KINDS - {"raw"}


class UsersLab(Lab):
    """The cable's end is where the user's slirp4netns sends."""

    network = "slirp4netns"

    def engine(self, room, image):
        """Return podman without root."""
        self.pod.sysctl({"ipv4/ping_group_range": "0 2147483647"})
        return Rootless(room, image, net=self.pod)


@pytest.fixture
def lab(image):
    needs("newuidmap", "slirp4netns")
    with Room() as room, Router(room) as router:
        yield UsersLab(room, router, image)


def test_without_the_lock_what_a_user_s_network_passes_on_leaks(lab):
    lab.start_bare()
    lab.join()
    lab.flood()
    assert set(lab.router.wire.stop(lab.router.case).by_kind) >= PASSED_ON


def test_nothing_leaves_a_user_s_container_while_its_tunnel_ends_and_it_is_killed(lab):
    lab.start_vpn()
    assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
    lab.join()
    lab.carries()
    wire = lab.router.wire
    with wire.phase("the tunnel taken down"):
        lab.podman.do("exec", "vpn", "ip", "link", "set", "wg0", "down")
        lab.flood()
    with wire.phase("the tunnel's program killed"):
        lab.kill_the_tunnel()
        lab.carries()
    with wire.phase("killed"):
        lab.podman.do("kill", "--signal=KILL", "vpn")
        lab.flood()
    report = wire.stop(lab.router.case)
    assert not report.leaks, str(report)
    assert report.allowed


@pytest.mark.parametrize(
    ("network", "answered"),
    [
        # The engine's proxy connects inside, over the loopback: the lock can't tell who asks, or that anyone does.
        ("slirp4netns", {OPEN, CLOSED}),
        ("slirp4netns:port_handler=slirp4netns", {OPEN}),
    ],
    ids=["by the engine's proxy", "by slirp4netns"],
)
def test_which_pages_that_a_user_s_engine_publishes_are_answered(lab, network, answered):
    lab.network = network
    lab.start_vpn(*PUBLISHED, *(f"--env={name}={value}" for name, value in VARIABLES.items()))
    assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
    for port in (OPEN, CLOSED):
        lab.start_page(port)
    assert {port for port in (OPEN, CLOSED) if lab.is_answered(port)} == answered

"""Real podman's own bridge: a page of a container that joins is published to the LAN, and the first is started again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from boot.room import Room
from boot.router import Router
from container.lab import CLOSED, KINDS, OPEN, PUBLISHED, VARIABLES, Lab
from container.podman import Podman
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
# The bridge has no IPv6, and the engine's host forwards no frames.
FORWARDED = KINDS - {"udp6", "packet", "bypass"}
NETAVARK = Path("/usr/lib/podman/netavark")


class BridgeLab(Lab):
    """The cable's end is the engine's host, which makes the bridge and translates addresses."""

    network = "bridge"

    def engine(self, room, image):
        """Return podman whose networks are made at the cable's end."""
        return Podman(room, image, net=self.pod)

    def start_vpn(self, *options):
        """Publish both ports, of which the lock allows one."""
        super().start_vpn(*PUBLISHED, *(f"--env={name}={value}" for name, value in VARIABLES.items()), *options)

    def devices(self, container):
        """Return what the network that a container is in has."""
        return {each["ifname"] for each in json.loads(self.podman.do("exec", container, "ip", "-json", "link"))}


@pytest.fixture
def lab(image):
    if shutil.which("iptables") is None or not NETAVARK.exists():
        pytest.skip("needs netavark and iptables: run `make setup`")
    with Room() as room, Router(room) as router:
        yield BridgeLab(room, router, image)


def test_without_the_lock_what_the_bridge_forwards_leaks_and_both_pages_are_answered(lab):
    lab.start_bare(*PUBLISHED)
    for port in (OPEN, CLOSED):
        lab.start_page(port)
        assert lab.is_answered(port)
    lab.join()
    lab.flood()
    assert set(lab.router.wire.stop(lab.case).by_kind) >= FORWARDED


def test_the_page_that_is_allowed_is_answered_and_a_restart_leaves_those_that_joined_without_a_way_out(lab):
    lab.start_vpn()
    assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
    lab.join()
    for port in (OPEN, CLOSED):
        lab.start_page(port)
    lab.carries()
    assert lab.is_answered(OPEN)
    assert not lab.is_answered(CLOSED)
    wire = lab.router.wire
    with wire.phase("the tunnel taken down"):
        lab.podman.do("exec", "vpn", "ip", "link", "set", "wg0", "down")
        lab.flood()
        assert lab.is_answered(OPEN)
    with wire.phase("started again"):
        lab.podman.do("restart", "vpn")
        assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
        lab.flood()
        assert not lab.is_answered(OPEN)
    assert "wg0" in lab.devices("vpn")
    assert lab.devices("app") == {"lo"}
    with wire.phase("those that joined started again"):
        lab.podman.do("restart", "--time=0", "app")
        lab.carries()
    report = wire.stop(lab.case)
    assert not report.leaks, str(report)
    assert {"transport", "inbound:tcp-8080"} <= set(report.allowed)

"""Real podman's own bridge: a page of a container that joins is published to the LAN, and the first is started again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from boot.room import Room
from boot.router import MACHINE4, PREFIXES, ROUTER4, Router
from boot.wire import DEVICE
from container.lab import KINDS, Lab
from container.podman import IMAGE, Podman
from failshut.config import environment, policy_file, resolve
from failshut.config.declaration import Sources
from failshut.drill.judge import Connection
from failshut.drill.network.wait import until
from failshut.model.packet import TCP

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
# The bridge has no IPv6, and the engine's host forwards no frames.
FORWARDED = KINDS - {"udp6", "packet", "bypass"}
VARIABLES = {"FAILSHUT_INBOUND": "tcp/8080", "FAILSHUT_INBOUND_FROM": PREFIXES[0]}
NETAVARK = Path("/usr/lib/podman/netavark")
OPEN, CLOSED = 8080, 8081
PUBLISHED = tuple(f"--publish={port}:{port}" for port in (OPEN, CLOSED))
FIRST = 20000
_LISTENS = 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))'
# From a port that is known, so that the judge knows the connection; no proxy of the environment.
_ASK = f"""
import http.client, sys
page = http.client.HTTPConnection("{MACHINE4}", int(sys.argv[1]), timeout=5, source_address=("{ROUTER4}", int(sys.argv[2])))
page.request("GET", "/")
sys.exit(page.getresponse().status != 200)
"""


class BridgeLab(Lab):
    """The cable's end is the engine's host, which makes the bridge and translates addresses."""

    network = "bridge"

    def __init__(self, room, router, image):
        super().__init__(room, router, image)
        self.asked = []

    def engine(self, room, image):
        """Return podman whose networks are made at the cable's end."""
        return Podman(room, image, net=self.pod)

    def start_vpn(self, *options):
        """Publish both ports, of which the lock allows one."""
        super().start_vpn(*PUBLISHED, *(f"--env={name}={value}" for name, value in VARIABLES.items()), *options)

    def start_page(self, port):
        """Start a container that joins and has a page."""
        server = ("-m", "http.server", str(port))
        self.podman.start(f"page-{port}", "container:vpn", "--entrypoint=python3", IMAGE, *server)
        assert until(lambda: self.podman.run("exec", f"page-{port}", "python3", "-c", _LISTENS, str(port)).ok, within=30, step=0.2)

    def is_answered(self, port):
        """Whether a host of the LAN gets the page."""
        own = FIRST + len(self.asked)
        self.asked.append(Connection(TCP, ip_address(MACHINE4), port, ip_address(ROUTER4), own, DEVICE))
        return self.room.run("python3", "-c", _ASK, str(port), str(own), net=self.router.namespace).ok

    def devices(self, container):
        """Return what the network that a container is in has."""
        return {each["ifname"] for each in json.loads(self.podman.do("exec", container, "ip", "-json", "link"))}

    @property
    def case(self):
        """The policy is what the variables say."""
        text = environment.policy_text(VARIABLES)
        assert isinstance(text, str), text
        files = {f"{environment.CONFIGS}/wg0.conf": self.router.config.encode()}
        policy = resolve.resolve(policy_file.parse(text, "failshut.toml"), Sources(files=files)).policy
        return replace(self.router.case, policy=policy, connections=tuple(self.asked))


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
    report = wire.stop(lab.case)
    assert not report.leaks, str(report)
    assert {"transport", "inbound:tcp-8080"} <= set(report.allowed)

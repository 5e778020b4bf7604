"""Real podman: a container holds the lock, another joins it and floods while the first is killed, stopped, started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boot import noise, roots
from boot.conftest import skip_where_nothing_boots
from boot.room import Room
from boot.router import MACHINE4, MACHINE6, ROUTER4, ROUTER6, Router
from boot.wire import DEVICE
from container.podman import IMAGE, Podman
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
BUILD = roots.REPOSITORY / "packaging/container/build"
KINDS = frozenset(noise.TARGETS)
_STATIC = f"""
link set lo up
address add {MACHINE4}/24 dev {DEVICE}
address add {MACHINE6}/64 dev {DEVICE} nodad
link set {DEVICE} up
route add default via {ROUTER4}
route add default via {ROUTER6}
"""
_KILL_THE_TUNNEL = "for each in /proc/[0-9]*; do grep -qs wireguard-go $each/comm && kill -9 ${each#/proc/}; done; true"
_SOURCE = (
    f"--volume={roots.REPOSITORY}/src/failshut:/opt/failshut/lib/failshut:ro",
    f"--volume={BUILD.parent}/failshut-container:/usr/local/bin/failshut-container:ro",
)
_NOISE = ("--entrypoint=python3", IMAGE, "-I", "-S", "-E", "/noise.py")


@pytest.fixture(scope="module")
def image() -> Path:
    """The image's file, built when neither it nor what it is made of is in the cache."""
    if os.environ.get("FAILSHUT_TEST_CONTAINER") != "1":
        pytest.skip("builds a Debian tree and runs podman: FAILSHUT_TEST_CONTAINER=1")
    skip_where_nothing_boots()
    for program in ("podman", "crun"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}: run `make setup`")
    # The source comes by a mount, so that a change of it needs no new image.
    made_of = (roots.REPOSITORY / "pyproject.toml", BUILD)
    newest = max(each.stat().st_mtime for each in made_of)
    file = roots.cache() / "container.tar"
    with roots.locked(file.with_suffix(".lock")):
        if not file.exists() or file.stat().st_mtime < newest:
            done = subprocess.run((BUILD, file, sys.executable), capture_output=True, text=True, timeout=500, check=False)
            assert done.returncode == 0, done.stderr
    return file


class Lab:
    """A namespace with the cable to the router, which podman's containers share; it stays when they go, as a pod's does."""

    def __init__(self, room: Room, router: Router, image: Path) -> None:
        self.room, self.router = room, router
        self.pod = room.namespace("pod")
        # A guest's own; the container may not set it.
        self.pod.sysctl({"ipv6/conf/default/accept_dad": 0})
        router.plug(self.pod)
        self.pod.batch(_STATIC)
        self.podman = Podman(room, image)
        (room.path / "run/wg0.conf").write_text(router.config)
        (room.path / "run/noise.py").write_text(Path(noise.__file__).read_text())
        (room.path / "run/counts").mkdir()

    def start_vpn(self) -> None:
        """Start the image with one capability, and a config that it can't write to."""
        self.podman.start(
            *("vpn", "ns:/run/netns/pod", "--cap-add=NET_ADMIN", "--device=/dev/net/tun"),
            "--volume=/run/wg0.conf:/etc/wireguard/wg0.conf:ro",
            *_SOURCE,
        )

    def join(self, network: str) -> None:
        """Start the container that floods."""
        volumes = ("--volume=/run/noise.py:/noise.py:ro", "--volume=/run/counts:/run")
        self.podman.start("app", network, "--cap-add=NET_RAW", *volumes, *_NOISE)

    def flood(self, within: float = 60) -> None:
        """Wait until every kind was tried some more."""
        before = self._tried()
        assert until(lambda: self._tried() > before + 50, within=within, step=0.05), self.podman.logs("app")

    def _tried(self) -> int:
        try:
            lines = (self.room.path / f"run/counts/{Path(noise.COUNTS).name}").read_text().splitlines()
        except OSError:
            return 0
        return min((int(line.split()[1]) for line in lines), default=0)

    def carries(self) -> None:
        """Wait until the tunnel carries what is sent."""
        assert self.router.carries(within=90), self.podman.logs("vpn")

    def is_healthy(self) -> bool:
        """What the health check asks."""
        return self.podman.run("exec", "vpn", "failshut", "status", "-q").ok


@pytest.fixture
def lab(image):
    with Room() as room, Router(room) as router:
        yield Lab(room, router, image)


def test_without_the_lock_the_container_that_joined_leaks_every_kind(lab):
    lab.podman.start("vpn", "ns:/run/netns/pod", "--entrypoint=sleep", IMAGE, "infinity")
    lab.join("container:vpn")
    lab.flood()
    lab.podman.do("kill", "--signal=KILL", "vpn")
    lab.flood()
    assert set(lab.router.wire.stop(lab.router.case).by_kind) >= KINDS


def test_nothing_leaves_while_the_first_is_killed_stopped_and_started_again(lab):
    lab.start_vpn()
    assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
    lab.join("container:vpn")
    lab.carries()
    wire = lab.router.wire
    with wire.phase("the tunnel's program killed"):
        lab.podman.do("exec", "vpn", "sh", "-c", _KILL_THE_TUNNEL)
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

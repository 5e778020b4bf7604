"""A namespace that containers share or an engine sends from, with the cable to the router on which everything is captured."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from boot import noise, roots
from boot.room import Room
from boot.router import MACHINE4, MACHINE6, PREFIXES, ROUTER4, ROUTER6, Router
from boot.wire import DEVICE
from container.podman import IMAGE, Podman
from failshut.config import environment, policy_file, resolve
from failshut.config.declaration import Sources
from failshut.drill.judgement.judge import Case, Connection
from failshut.drill.network.wait import until
from failshut.model.packet import TCP

BUILD = roots.REPOSITORY / "packaging/container/build"
KINDS = frozenset(noise.TARGETS)
_KILL_THE_TUNNEL = "for each in /proc/[0-9]*; do grep -qs wireguard-go $each/comm && kill -9 ${each#/proc/}; done; true"
_STATIC = f"""
link set lo up
address add {MACHINE4}/24 dev {DEVICE}
address add {MACHINE6}/64 dev {DEVICE} nodad
link set {DEVICE} up
route add default via {ROUTER4}
route add default via {ROUTER6}
"""
SOURCE = (
    f"--volume={roots.REPOSITORY}/src/failshut:/opt/failshut/lib/failshut:ro",
    f"--volume={BUILD.parent}/failshut-container:/usr/local/bin/failshut-container:ro",
)
_NOISE = ("--entrypoint=python3", IMAGE, "-I", "-S", "-E", "/noise.py")

# The image's variables for a page of the LAN.
VARIABLES = {"FAILSHUT_INBOUND": "tcp/8080", "FAILSHUT_INBOUND_FROM": PREFIXES[0]}
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


class Lab:
    """The cable, and podman. By itself, containers share the namespace at its end, which stays when they go, as a pod's does."""

    network = "ns:/run/netns/pod"

    def __init__(self, room: Room, router: Router, image: Path) -> None:
        self.room, self.router = room, router
        self.pod = room.namespace("pod")
        # A guest's own; the container may not set it.
        self.pod.sysctl({"ipv6/conf/default/accept_dad": 0})
        router.plug(self.pod)
        self.pod.batch(_STATIC)
        self.podman = self.engine(room, image)
        self.asked: list[Connection] = []
        (room.path / "run/wg0.conf").write_text(router.config)
        (room.path / "run/wg0.conf").chmod(0o644)
        (room.path / "run/noise.py").write_text(Path(noise.__file__).read_text())
        (room.path / "run/counts").mkdir()
        (room.path / "run/counts").chmod(0o777)

    def engine(self, room: Room, image: Path) -> Podman:
        """Return the engine."""
        return Podman(room, image)

    def start_vpn(self, *options: str) -> None:
        """Start the image with one capability, and a config that it can't write to."""
        self.podman.start(
            *("vpn", self.network, "--cap-add=NET_ADMIN", "--device=/dev/net/tun"),
            "--volume=/run/wg0.conf:/etc/wireguard/wg0.conf:ro",
            *SOURCE,
            *options,
        )

    def start_bare(self, *options: str) -> None:
        """Start the first container without the lock."""
        self.podman.start("vpn", self.network, *options, "--entrypoint=sleep", IMAGE, "infinity")

    def join(self, network: str = "container:vpn") -> None:
        """Start the container that floods."""
        volumes = ("--volume=/run/noise.py:/noise.py:ro", "--volume=/run/counts:/run")
        self.podman.start("app", network, "--cap-add=NET_RAW", *volumes, *_NOISE)

    def kill_the_tunnel(self) -> None:
        """End the tunnel's program as a crash does."""
        self.podman.do("exec", "vpn", "sh", "-c", _KILL_THE_TUNNEL)

    def flood(self, within: float = 60) -> None:
        """Wait until every kind was tried some more."""
        before = self._tried()
        assert until(lambda: self._tried() > before + 20, within=within, step=0.05), self.podman.logs("app")

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

    def start_page(self, port: int) -> None:
        """Start a container that joins and has a page."""
        server = ("-m", "http.server", str(port))
        self.podman.start(f"page-{port}", "container:vpn", "--entrypoint=python3", IMAGE, *server)
        assert until(lambda: self.podman.run("exec", f"page-{port}", "python3", "-c", _LISTENS, str(port)).ok, within=30, step=0.2)

    def is_answered(self, port: int) -> bool:
        """Whether a host of the LAN gets the page."""
        own = FIRST + len(self.asked)
        self.asked.append(Connection(TCP, ip_address(MACHINE4), port, ip_address(ROUTER4), own, DEVICE))
        return self.room.run("python3", "-c", _ASK, str(port), str(own), net=self.router.namespace).ok

    @property
    def case(self) -> Case:
        """The policy is what the variables say."""
        text = environment.policy_text(VARIABLES)
        assert isinstance(text, str), text
        files = {f"{environment.CONFIGS}/wg0.conf": self.router.config.encode()}
        policy = resolve.resolve(policy_file.parse(text, "failshut.toml"), Sources(files=files)).policy
        return replace(self.router.case, policy=policy, connections=tuple(self.asked))

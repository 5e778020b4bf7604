"""Real podman in a lab's room, with its storage, its state and its networks in the room alone."""

from __future__ import annotations

from pathlib import Path

from boot.room import Room
from failshut.drill.network.netns import Namespace, must
from failshut.host.run import Result

IMAGE = "localhost/failshut:test"
# crun wants one hierarchy of cgroups, whatever the machine mounts.
_SET_UP = """
set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir /run/storage
"""
_GLOBAL = (
    *("podman", "--root", "/run/storage", "--runroot", "/run/podman", "--tmpdir", "/run/libpod", "--storage-driver", "vfs"),
    *("--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "file"),
)
_CHANGES = (
    'ENTRYPOINT ["failshut-container"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


class Podman:
    """Podman with our image, and containers in one network namespace of the lab."""

    def __init__(self, room: Room, image: Path) -> None:
        self._room = room
        room.do("sh", "-c", _SET_UP)
        self.do("import", *(f"--change={each}" for each in _CHANGES), str(image), IMAGE)

    def run(self, *argv: str, net: Namespace | None = None) -> Result:
        """Run podman."""
        return self._room.run(*_GLOBAL, *argv, timeout=120, net=net)

    def do(self, *argv: str) -> str:
        """Run podman, which must succeed."""
        return must(self.run(*argv))

    def start(self, name: str, network: str, *argv: str) -> None:
        """Start a container that stays; `argv` are more options, then perhaps `IMAGE` and a command."""
        words = argv if IMAGE in argv else (*argv, IMAGE)
        self.do("run", "--detach", "--name", name, "--cgroups=disabled", f"--network={network}", "--cap-drop=all", *words)

    def logs(self, name: str) -> str:
        """Return what a container has said."""
        done = self.run("logs", name)
        return done.out + done.err

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
# What podman keeps and unpacks where no option leads elsewhere.
for each in /var/lib/containers /var/tmp; do mkdir -p $each; mount -t tmpfs none $each; done
touch /run/image.tar
mount --bind "$1" /run/image.tar
"""
_HOME, _UID = "/run/user/4711", "4711"
# A user and its range of others, in this room alone.
_LODGER = f"""
set -e
mkdir -p {_HOME} /run/etc
chown {_UID}:{_UID} {_HOME}
{{ cat /etc/passwd; echo lodger:x:{_UID}:{_UID}::{_HOME}:/bin/sh; }} >/run/etc/passwd
{{ cat /etc/group; echo lodger:x:{_UID}:; }} >/run/etc/group
echo lodger:200000:65536 | tee /run/etc/subuid >/run/etc/subgid
for each in passwd group subuid subgid; do mount --bind /run/etc/$each /etc/$each; done
"""
_GLOBAL = (
    *("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "file"),
    *("--network-backend", "netavark"),
)
_CHANGES = (
    'ENTRYPOINT ["failshut-container"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


class Podman:
    """Podman with our image, run by root; what it makes of networks, it makes in `net`."""

    home, prefix = "/run", ()

    def __init__(self, room: Room, image: Path, net: Namespace | None = None) -> None:
        self._room, self._net = room, net
        room.do("sh", "-c", _SET_UP, "sh", str(image))
        self.prepare(room)
        self.do("import", *(f"--change={each}" for each in _CHANGES), "/run/image.tar", IMAGE)

    def prepare(self, room: Room) -> None:
        """Make what the engine's user needs."""

    def run(self, *argv: str) -> Result:
        """Run podman."""
        state = ("--root", f"{self.home}/storage", "--runroot", f"{self.home}/podman", "--tmpdir", f"{self.home}/libpod")
        networks = ("--network-config-dir", f"{self.home}/networks")
        return self._room.run(*self.prefix, "podman", *state, *networks, *_GLOBAL, *argv, timeout=120, net=self._net)

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


class Rootless(Podman):
    """Podman run by an ordinary user."""

    home = _HOME
    prefix = (
        *("setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups"),
        *("env", "--chdir=/", f"HOME={_HOME}", f"XDG_RUNTIME_DIR={_HOME}", "USER=lodger"),
    )

    def prepare(self, room: Room) -> None:
        """Make the user."""
        room.do("sh", "-c", _LODGER)

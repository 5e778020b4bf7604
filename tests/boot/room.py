"""A room of its own for a lab: mount, PID and network namespaces in which every process of the lab lives and with which it dies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from failshut.drill.network.netns import Namespace, SetUpError, must
from failshut.host.run import Result, run

# The shell stays as the room's first process and reaps what daemons leave behind.
_SET_UP = """
set -e
mount -t tmpfs none /run
mkdir /run/netns
echo ready
sleep infinity &
wait
"""

# Waits for the end of the test's process, however it comes; only then are the room's cgroups empty.
_SWEEP = """
read -r _
for _ in $(seq 100); do
	find "$@" -depth -type d -exec rmdir {} + 2>/dev/null
	test -n "$(find "$@" -maxdepth 0 2>/dev/null)" || exit 0
	sleep 0.1
done
"""


@dataclass(frozen=True, slots=True)
class RoomNamespace(Namespace):
    """A network namespace whose name is known in a room only."""

    room: Path

    @property
    def path(self) -> str:
        """Where it can be opened from outside the room."""
        return f"{self.room}/run/netns/{self.name}"


class Room:
    """Ends with the block, or with the test's process, and takes everything along: processes, mounts, namespaces, files."""

    def __enter__(self) -> Self:
        private = ("unshare", "--mount", "--propagation=private", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
        self._holder = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *private, "sh", "-c", _SET_UP),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            raise SetUpError(f"no private namespaces: {self._holder.stderr.read()}")
        self.first = children(self._holder.pid)[0]
        self.cgroup = _cgroups() / f"failshut-boot-{self._holder.pid}"
        self.cgroup.mkdir()
        # In a session of its own, so that a signal to the test's group does not end it before its work.
        left = (str(self.cgroup), *_copies(self.cgroup.name))
        self._sweeper = subprocess.Popen(("sh", "-c", _SWEEP, "sh", *left), stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()
        self._sweeper.communicate()

    @property
    def path(self) -> Path:
        """The room's file system, seen from outside."""
        return Path(f"/proc/{self.first}/root")

    def namespace(self, name: str) -> RoomNamespace:
        """Make a network namespace."""
        self.do("ip", "netns", "add", name)
        return RoomNamespace(name, self.path)

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 30, net: Namespace | None = None) -> Result:
        """Run a program in the room, perhaps in another network namespace."""
        return run(self._inside(argv, net), stdin=stdin, timeout=timeout)

    def do(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program in the room that must succeed; return its output."""
        return must(self.run(*argv, stdin=stdin))

    def start(
        self,
        *argv: str,
        net: Namespace | None = None,
        env: dict[str, str] | None = None,
        log: Path | None = None,
        apart: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start a program in the room that stays, in the room's cgroup and perhaps another network namespace.

        `apart` names a cgroup of its own below that: two machines in one would find each other's processes in their units.
        """
        cgroup = self.cgroup / apart
        cgroup.mkdir(exist_ok=True)
        # The cgroup is taken outside, where the file system of cgroups is surely mounted.
        script = f'echo 0 > {cgroup}/cgroup.procs && exec "$@"'
        with (log or Path(os.devnull)).open("ab") as output:
            return subprocess.Popen(
                ("sh", "-c", script, "sh", *self._inside(argv, net)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
            )

    def _inside(self, argv: Sequence[str], net: Namespace | None = None) -> tuple[str, ...]:
        network = (f"--net={net.path}",) if net else ("--net",)
        return ("nsenter", f"--target={self.first}", "--mount", "--pid", *network, *argv)


def children(process: int) -> list[int]:
    """Return a process's children, which the kernel lists by the thread that has them."""
    found = []
    # It, or a thread of it, may end meanwhile.
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(each) for each in thread.read_text().split()]
    return found


def _cgroups() -> Path:
    """Return the part of the unified hierarchy in which the test itself runs."""
    mounted = next((line.split()[4] for line in _lines("mountinfo") if " - cgroup2 " in line), None)
    own = next((line.removeprefix("0::/") for line in _lines("cgroup") if line.startswith("0::/")), None)
    if mounted is None or own is None:
        raise SetUpError("no unified hierarchy of cgroups is mounted")
    return Path(mounted, own)


def _copies(name: str) -> list[str]:
    """Return where systemd-nspawn copies the cgroup to in an older hierarchy, if the machine has one."""
    mounted = [line.split()[4] for line in _lines("mountinfo") if " - cgroup " in line and "name=systemd" in line]
    own = [line.split(":", 2)[2] for line in _lines("cgroup") if line.startswith("0::")]
    return [f"{mount}{path.rstrip('/')}/{name}" for mount in mounted for path in own]


def _lines(name: str) -> list[str]:
    return Path("/proc/self", name).read_text().splitlines()

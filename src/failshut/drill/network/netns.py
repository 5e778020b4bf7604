"""Network namespaces of the lab: entering one with a thread, and running a program inside one."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from failshut.host.run import Result, run

# linux/sched.h, linux/mount.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(code: int, what: str) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2)); Python 3.11 has no wrapper."""
    _check(_libc.unshare(flags), "unshare")


def enter(network: int) -> None:
    """Move the calling thread into the network namespace of a descriptor (setns(2)), for good."""
    _check(_libc.setns(network, CLONE_NEWNET), "setns")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Mount a file system, in the mount namespace of the caller (mount(2))."""
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"mount {kind} on {target}")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


@dataclass(frozen=True, slots=True)
class Namespace:
    """One named network namespace of the lab."""

    name: str

    @property
    def path(self) -> str:
        """Where `ip netns` keeps it; /run is a tmpfs of the worker's own."""
        return f"/run/netns/{self.name}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Run a block in this namespace. Sockets and processes made in it stay there; only this thread moves."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(there, CLONE_NEWNET), f"setns {self.name}")
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "setns back")
            os.close(there)
            os.close(home)

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60.0) -> Result:
        """Run a program in the namespace and return what it said, whatever its exit code."""
        with self.inside():
            return run(argv, stdin=stdin, timeout=timeout)

    def do(self, *argv: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run a program that must succeed; return its output."""
        return must(self.run(*argv, stdin=stdin, timeout=timeout))

    def batch(self, lines: str) -> None:
        """Run the lines of an `ip -batch` file, all of which must succeed."""
        self.do("ip", "-batch", "-", stdin=_trimmed(lines))

    def try_batch(self, lines: str, *options: str) -> None:
        """Run the lines of an `ip -batch` file, going on where one fails: what an attack breaks may be broken already."""
        self.run("ip", *options, "-force", "-batch", "-", stdin=_trimmed(lines))

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program that stays; it ends with the worker at the latest."""
        quiet = subprocess.DEVNULL
        with self.inside():
            return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)

    def sysctl(self, settings: dict[str, int | str]) -> None:
        """Set keys under /proc/sys/net; the kernel resolves that path by the calling thread's namespace."""
        with self.inside():
            for key, value in settings.items():
                Path("/proc/sys/net", key).write_text(str(value))


def _trimmed(lines: str) -> str:
    return "".join(f"{line.strip()}\n" for line in lines.splitlines() if line.strip())


class SetUpError(RuntimeError):
    """The lab could not be built: what was tried and what the kernel or the tool said."""


def must(result: Result) -> str:
    """Return a program's output; raise SetUpError with its words when it failed."""
    if not result.ok:
        raise SetUpError(f"{' '.join(result.argv)}: {result.err.strip() or result.out.strip() or result.code}")
    return result.out

"""OpenVPN as it runs: the process behind a tun device, how it was started, the mark and the owner of its sockets."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from failshut.host.run import run
from failshut.model.units import Mark

_MARK = re.compile(r"\bfwmark:(0x[0-9a-f]+)")
# systemd's unit, at the end of a control group's path.
_UNIT = re.compile(r"/([^/]+\.service)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Running:
    """An OpenVPN that holds a device: its command line and where it was given, and the systemd unit that it is of ("" for none)."""

    process: int
    argv: tuple[str, ...]
    directory: str
    unit: str

    @property
    def config(self) -> str:
        """The path of its config; "" where it was given no file."""
        words = self.argv[1:]
        named = next((words[at + 1] for at, each in enumerate(words[:-1]) if each == "--config"), "")
        # With nothing but a file's name, that is the config (openvpn(8)).
        named = named or (words[0] if len(words) == 1 and not words[0].startswith("-") else "")
        return str(Path(self.directory, named)) if named else ""


def running(device: str) -> Running | None:
    """Return the OpenVPN that holds a tun device; None where another program does, or nobody, or it can't be seen."""
    for process in holders_of(device):
        with contextlib.suppress(OSError):
            place = Path("/proc") / str(process)
            argv = tuple(os.fsdecode(each) for each in (place / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"))
            if Path(argv[0]).name != "openvpn":
                continue
            unit = _UNIT.search((place / "cgroup").read_text())
            return Running(process, argv, str((place / "cwd").readlink()), unit[1] if unit else "")
    return None


def mark_of(device: str) -> Mark | None:
    """Return the mark of the transport of a running OpenVPN; None when it has none, or it can't be seen."""
    found = running(device)
    if found is None:
        return None
    listed = run(["ss", "-H", "-n", "-t", "-u", "-a", "-p", "-e"])
    lines = (line for line in listed.out.splitlines() if f"pid={found.process}," in line)
    marks = [Mark(int(hit[1], 16)) for line in lines if (hit := _MARK.search(line))]
    return marks[0] if marks else None


def holders_of(device: str) -> Iterator[int]:
    """Yield the processes of this network namespace that hold a tun device of this name (proc(5): fdinfo's `iff`)."""
    here = Path("/proc/self/ns/net").stat()
    wanted = re.compile(rf"^iff:\s*{re.escape(device)}$", re.MULTILINE)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Another namespace may have a tunnel of the same name.
            if os.path.samestat(here, (process / "ns/net").stat()) and any(map(wanted.search, _descriptors(process))):
                yield int(process.name)


def _descriptors(process: Path) -> Iterator[str]:
    for each in (process / "fdinfo").iterdir():
        with contextlib.suppress(OSError):
            yield each.read_text(errors="replace")

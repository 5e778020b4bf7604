"""Control groups (cgroup v2): where they are mounted, a slice's place among them, and one for a single program without systemd."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# nft looks paths up below this, whatever is mounted there.
NFT_ROOT = Path("/sys/fs/cgroup")
_MOUNTS = Path("/proc/self/mountinfo")
_OURS = "program-"


class NoControlGroupsError(Exception):
    """This machine has no control groups that could tell programs apart; the message is a reason."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The machine's cgroup v2: where it is mounted, below `NFT_ROOT`."""

    root: Path

    def directory(self, group: str) -> Path:
        """Return a group's directory; `group` is a path from the hierarchy's root."""
        return self.root / group

    def nft_name(self, group: str) -> str:
        """Return a group as nft must be told it: hybrid machines mount cgroup v2 below the place that nft looks at."""
        return str((self.root / group).relative_to(NFT_ROOT))


def hierarchy() -> Hierarchy:
    """Return this machine's cgroup v2. Raises `NoControlGroupsError`."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NoControlGroupsError(f"{_MOUNTS} can't be read: {error.strerror}") from error
    # A mount that another one covers is listed all the same.
    places = [each for each in cgroup2_mounts(mounts) if (each / "cgroup.procs").exists()]
    usable = [each for each in places if each == NFT_ROOT or NFT_ROOT in each.parents]
    if usable:
        return Hierarchy(usable[0])
    if places:
        raise NoControlGroupsError(f"cgroup v2 is mounted on {places[0]}, where nft does not look for it ({NFT_ROOT})")
    raise NoControlGroupsError("cgroup v2 is not mounted: the kernel can't tell one program's packets from another's")


def cgroup2_mounts(mountinfo: str) -> Iterator[Path]:
    """Yield where cgroup v2 is mounted, by /proc/self/mountinfo (proc(5): the fifth field); the shortest path first."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(" "), after.split(" ")[0]
        if kind == "cgroup2" and len(words) > 4:
            found.append(Path(words[4]))
    yield from sorted(dict.fromkeys(found), key=lambda each: len(each.parts))


def make(group: str) -> Path:
    """Make a group, and those around it; fine when it is there. Raises `NoControlGroupsError`."""
    directory = hierarchy().directory(group)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoControlGroupsError(f"{directory} can't be made: {(error.strerror or 'it failed').lower()}") from error
    if not os.access(directory / "cgroup.procs", os.W_OK):
        raise NoControlGroupsError(f"{directory} can't be written")
    return directory


def make_one(group: str) -> Path:
    """Make a group of its own for one program inside `group`, and sweep those whose programs have ended."""
    parent = make(group)
    for each in parent.glob(f"{_OURS}*"):
        # The kernel removes none that has a process in it.
        with contextlib.suppress(OSError):
            each.rmdir()
    # The process that asks is the one that will become the program, or its parent: no other has that number meanwhile.
    return make(f"{group}/{_OURS}{os.getpid()}")


def is_empty(group: str) -> bool:
    """Whether no process is in a group or below it; True for one that is not there."""
    try:
        events = (hierarchy().directory(group) / "cgroup.events").read_text(encoding="ascii")
    except (OSError, NoControlGroupsError):
        return True
    return "populated 0" in events.splitlines()


def kill(group: str) -> None:
    """Kill every process in a group and below it at once (`cgroup.kill`, Linux 5.14); fine when there is none."""
    with contextlib.suppress(OSError, NoControlGroupsError):
        (hierarchy().directory(group) / "cgroup.kill").write_text("1", encoding="ascii")

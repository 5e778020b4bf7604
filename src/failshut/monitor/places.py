"""Where the monitor's files lie, all of them gone with a reboot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from failshut.boot.places import (
    GUARD_HOLD,
    MONITOR_DIRECTORY,
    MONITOR_EVENTS,
    MONITOR_LATER,
    MONITOR_LOCK,
    MONITOR_REFRESH,
    MONITOR_STATUS,
    RUN_DIRECTORY,
)


@dataclass(frozen=True, slots=True)
class Places:
    """The files by what they are for. `private` is root's alone: the rules hold the stamp."""

    run: Path = RUN_DIRECTORY

    @property
    def private(self) -> Path:
        """What the warm nft loads."""
        return self.run / MONITOR_DIRECTORY.name

    @property
    def alive(self) -> Path:
        """Locked as long as a monitor runs."""
        return self.run / MONITOR_LOCK.name

    @property
    def later(self) -> Path:
        """Underlay devices that came since arming, for the loader."""
        return self.run / MONITOR_LATER.name

    @property
    def status(self) -> Path:
        """For bars and prompts."""
        return self.run / MONITOR_STATUS.name

    @property
    def events(self) -> Path:
        """What happened, a line each."""
        return self.run / MONITOR_EVENTS.name

    @property
    def refresh(self) -> Path:
        """Touched to have the endpoints refreshed."""
        return self.run / MONITOR_REFRESH.name

    @property
    def guard(self) -> Path:
        """There as long as the guard stands."""
        return self.run / GUARD_HOLD.relative_to(RUN_DIRECTORY)


def put(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step. Raises OSError. No flush to a disk: nothing here outlives a power cut anyway."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.touch(mode=mode)
    beside.chmod(mode)
    beside.write_text(text, encoding="utf-8", errors="surrogateescape")
    beside.replace(path)

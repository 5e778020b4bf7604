"""What is armed, on disk: a record that makes drift and disarming exact, and one of an arming that waits to be confirmed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from failshut.boot.places import PENDING_FILE, RECORD_FILE
from failshut.host.pins import parse_pins, pins_json
from failshut.model.backend import BackendName
from failshut.model.pin import Pin

FORMAT = 3


@dataclass(frozen=True, slots=True)
class EditedConfig:
    """A tunnel's config that got our FwMark line."""

    interface: str
    path: str


@dataclass(frozen=True, slots=True)
class MarkedTunnel:
    """A running tunnel whose mark we set; `before` is None when it had none."""

    interface: str
    before: int | None


@dataclass(frozen=True, slots=True)
class ChangedSysctl:
    """A kernel setting that we changed, by its path under /proc/sys."""

    path: str
    before: str


@dataclass(frozen=True, slots=True)
class Record:
    """What was armed; `armed_at` in seconds since 1970.

    `canonical` is the rules' one text, whatever tool lists them; `listing` what nft said right after they were read back and found
    equal: as long as it says the same, nothing has changed. `guarded` are the devices with the layer under IP, `under_ip` whether
    this kernel takes that layer at all, `with_systemd` whether systemd shall load the lock at boot, `in_initramfs` whether the
    initramfs shall load it before.
    """

    canonical: str
    listing: tuple[str, ...]
    policy: str
    armed_at: int
    version: str
    tunnels: tuple[str, ...]
    # Patterns of the bridges that are part of this machine.
    bridges: tuple[str, ...]
    guarded: tuple[str, ...]
    under_ip: bool
    with_systemd: bool = False
    in_initramfs: bool = False
    configs: tuple[EditedConfig, ...] = ()
    marks: tuple[MarkedTunnel, ...] = ()
    sysctls: tuple[ChangedSysctl, ...] = ()
    # Interfaces that may be left by and are no tunnels of the policy's (tailscale0).
    beside: tuple[str, ...] = ()
    # Those of `tunnels` that are no Ethernet device: what bears their name and is one is not the tunnel.
    routed: tuple[str, ...] = ()
    # The loader's and the units' paths and checksums.
    boot: tuple[tuple[str, str], ...] = ()
    # Directories that were made for our files, the deepest first.
    directories: tuple[str, ...] = ()
    # The routing rules, one line each.
    routing: tuple[str, ...] = ()
    # What the names of endpoints stand for.
    pins: tuple[Pin, ...] = ()
    # Of the policy without its pins: whether it still says what was armed.
    digest: str = ""
    # What the lock was made of, by checksum: files by their path, and what the machine said. Empty when no file says it all.
    inputs: tuple[tuple[str, str], ...] = ()
    # What the user had to know.
    notes: tuple[str, ...] = ()
    # What the audit said of the rules before they were loaded: `proved`, or `undecided`.
    audit: str = ""
    # The policy's serial number, and who signed it where a signature was asked for.
    serial: int = 0
    signed_by: str = ""
    # Which tool's rules are loaded.
    backend: str = BackendName.NFTABLES
    # Files that are the user's own, with rules of ours among theirs; whether each was there before.
    shared: tuple[tuple[str, bool], ...] = ()

    def to_json(self) -> str:
        """Return the record as it stands on disk."""
        return json.dumps({"format": FORMAT, **asdict(self), "pins": pins_json(self.pins)}, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True, slots=True)
class Pending:
    """An arming that is undone at `deadline` unless it is confirmed; `generation` is its directory's name.

    `deadline` is in seconds of the clock that systemd's timer goes by, and that nobody sets (CLOCK_MONOTONIC).
    """

    generation: str
    deadline: int

    def seconds_left(self) -> int:
        """Return the seconds until it is undone; negative when nothing has undone it in time."""
        return self.deadline - int(time.monotonic())

    def to_json(self) -> str:
        """Return it as it stands on disk."""
        return json.dumps({"format": FORMAT, **asdict(self)}) + "\n"


def parse_record(text: str) -> Record:
    """Read a record. Raises ValueError for one that is cut, empty or of another format."""
    raw = _parsed(text)
    try:
        raw["configs"] = tuple(EditedConfig(**each) for each in raw["configs"])
        raw["marks"] = tuple(MarkedTunnel(**each) for each in raw["marks"])
        raw["sysctls"] = tuple(ChangedSysctl(**each) for each in raw["sysctls"])
        raw["boot"] = tuple((path, digest) for path, digest in raw["boot"])
        raw["shared"] = tuple((path, bool(existed)) for path, existed in raw.get("shared", ()))
        raw["inputs"] = tuple((name, digest) for name, digest in raw.get("inputs", ()))
        raw["pins"] = tuple(parse_pins(raw.get("pins", ())).values())
        for name in ("listing", "tunnels", "routed", "bridges", "guarded", "directories", "routing", "notes"):
            raw[name] = tuple(raw.get(name, ()))
        return Record(**raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the record is incomplete: {error}") from error


def load_record(generation: Path) -> Record | None:
    """Return a generation's record; None when there is none. Raises ValueError for a broken one, PermissionError as it comes."""
    try:
        text = (generation / RECORD_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse_record(text)


def readable_record(generation: Path) -> Record | None:
    """Return a generation's record; None when there is none, or none that can be read."""
    try:
        return load_record(generation)
    except (OSError, ValueError):
        return None


def load_pending() -> Pending | None:
    """Return the arming that waits to be confirmed; None when none does. What can't be read is none: the timer ends it."""
    try:
        return Pending(**_parsed(PENDING_FILE.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _parsed(text: str) -> dict[str, Any]:
    raw: Mapping[str, Any] = json.loads(text)
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise ValueError("it was written by another version of failshut, or is no record")
    return raw

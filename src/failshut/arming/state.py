"""What is armed, on disk: the transaction for the next boot, and a record that makes drift and disarming exact."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Under /etc, not /var: a generator reads it before any other file system is mounted.
ARMED_DIRECTORY = Path("/etc/failshut/armed")
LOCK_FILE = "lock.nft"
EGRESS_FILE = "egress.nft"
RECORD_FILE = "armed.json"
FORMAT = 1


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
class Record:
    """What was armed; `armed_at` in seconds since 1970.

    `canonical` is the rules' one text, whatever tool lists them; `listing` what nft said right after they were read back and found
    equal: as long as it says the same, nothing has changed. `guarded` are the devices with the layer under IP, `under_ip` whether
    this kernel takes that layer at all.
    """

    canonical: str
    listing: tuple[str, ...]
    policy: str
    armed_at: int
    version: str
    tunnels: tuple[str, ...]
    guarded: tuple[str, ...]
    under_ip: bool
    configs: tuple[EditedConfig, ...] = ()
    marks: tuple[MarkedTunnel, ...] = ()

    def to_json(self) -> str:
        """Return the record as it stands on disk."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True) + "\n"


def parse_record(text: str) -> Record:
    """Read a record. Raises ValueError for one that is cut, empty or of another format."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw.pop("format") != FORMAT:
            raise ValueError("it was written by another version of failshut")
        raw["configs"] = tuple(EditedConfig(**each) for each in raw["configs"])
        raw["marks"] = tuple(MarkedTunnel(**each) for each in raw["marks"])
        for name in ("listing", "tunnels", "guarded"):
            raw[name] = tuple(raw[name])
        return Record(**raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the record is incomplete: {error}") from error


def load_record(directory: Path = ARMED_DIRECTORY) -> Record | None:
    """Return the record of what is armed; None when nothing is. Raises ValueError for a broken one, PermissionError as it comes."""
    try:
        text = (directory / RECORD_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return parse_record(text)

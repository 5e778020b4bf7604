"""What is armed, as the monitor needs it: the sealed texts and the record of the generation that a boot would load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from failshut.arming.armed.record import Record, load_record
from failshut.arming.boot.generations import CURRENT, EGRESS_FILE, LAST_GOOD, LOCK_FILE, METRICS_FILE, is_sealed
from failshut.boot.places import ARMED_DIRECTORY, PENDING_LINK
from failshut.config.listening import parse_metrics
from failshut.model.policy import Metrics
from failshut.monitor.lock.listings import Table, table_of


@dataclass(frozen=True, slots=True)
class Armed:
    """One generation. `listed` is what nft said of each table right after it was loaded."""

    generation: Path
    record: Record
    lock: str
    egress: str
    listed: Mapping[Table, str]
    # Where the numbers are served; None: nowhere.
    metrics: Metrics | None = None

    @property
    def not_underlay(self) -> tuple[str, ...]:
        """The interfaces that may be left by."""
        return (*self.record.tunnels, *self.record.beside)


def current_generation() -> Path | None:
    """Return the directory that the loader would begin with; None when nothing is armed."""
    return next(_generations(), None)


def load_armed() -> Armed | None:
    """Return the first whole generation, in the loader's order; None when there is none whose record can be read too."""
    for each in _generations():
        try:
            record = load_record(each) if is_sealed(each) else None
            if record:
                lock, egress = ((each / name).read_text(encoding="utf-8") for name in (LOCK_FILE, EGRESS_FILE))
                listed = {table_of(text): text for text in record.listing}
                return Armed(each, record, lock, egress, listed, _metrics(each))
        except (OSError, ValueError):
            continue
    return None


def _metrics(generation: Path) -> Metrics | None:
    """Return where the numbers are served. A generation of an earlier version says nothing of it."""
    try:
        return parse_metrics((generation / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _generations() -> Iterator[Path]:
    """Yield the directories of the generations, in the loader's order."""
    links = (PENDING_LINK, ARMED_DIRECTORY / CURRENT, ARMED_DIRECTORY / LAST_GOOD)
    yield from (each.resolve() for each in links if each.is_symlink())

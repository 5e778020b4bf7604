"""Refused packets, added up by who sent them and where to. Pure: time is given."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# So many rows are kept, and their totals besides: a port scan must not grow a watch without end.
MOST_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent: a process, as far as one was found. `uid` is None for the kernel's own packets and for forwarded ones."""

    name: str = ""
    pid: int | None = None
    uid: int | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: where a sender wanted to go. Times are in seconds since 1970; `name` is what it asked a resolver for, or ""."""

    sender: Sender
    destination: str
    protocol: str
    port: int | None
    packets: int
    first: float
    last: float
    name: str = ""


class Tally:
    """Rows by sender and destination, the one that was seen last at the end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rows: OrderedDict[tuple[Sender, str, str, int | None], Row] = OrderedDict()
        self.packets = 0
        # Rows that were given up for newer ones.
        self.forgotten = 0

    def add(self, sender: Sender, destination: str, protocol: str, port: int | None, at: float, *, packets: int = 1) -> bool:
        """Count refused packets of a sender; True when there was no such row yet."""
        key = (sender, destination, protocol, port)
        known = self._rows.pop(key, None)
        self.packets += packets
        first, before = (known.first, known.packets) if known else (at, 0)
        self._rows[key] = Row(sender, destination, protocol, port, before + packets, first, at)
        if len(self._rows) > MOST_ROWS:
            self._rows.popitem(last=False)
            self.forgotten += 1
        return known is None

    @property
    def latest(self) -> Row:
        """The row that was seen last. Raises StopIteration when there is none."""
        return next(reversed(self._rows.values()))

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row, the one that was seen last first."""
        return tuple(reversed(self._rows.values()))

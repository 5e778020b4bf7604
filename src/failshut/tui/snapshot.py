"""What the view shows at one moment, and what has changed since the one before: values, apart from any screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from failshut.allowances.openings import Open, opened
from failshut.arming.armed.status import Status
from failshut.arming.armed.words import headline
from failshut.watch.tally import Row


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment. `rows` is what was refused, the latest first; None where nobody listens, and `status` has the kernel's counts."""

    status: Status
    open: tuple[Open, ...] = ()
    rows: tuple[Row, ...] | None = None

    @property
    def bytes_through(self) -> dict[str, int]:
        """What went through each tunnel that is up, both ways."""
        return {name: tunnel.received + tunnel.sent for name, tunnel in self.status.tunnels if tunnel is not None}


def snapshot(status: Status, rows: tuple[Row, ...] | None = None) -> Snapshot:
    """Return what a status and a watch say of one moment."""
    return Snapshot(status, tuple(opened(status.listing.json_texts)), rows)


def changes(before: Snapshot | None, after: Snapshot) -> Iterator[str]:
    """Yield what is new, a sentence each: the state, what was opened or has ended, tunnels, who was refused for the first time."""
    word, meaning = headline(after.status)
    if before is None or headline(before.status) != (word, meaning):
        yield f"{word}: {meaning}"
    if before is None:
        return
    was, now = {str(each.what) for each in before.open}, {str(each.what) for each in after.open}
    yield from (f"opened: {each}" for each in sorted(now - was))
    yield from (f"shut again: {each}" for each in sorted(was - now))
    up_before = {name for name, tunnel in before.status.tunnels if tunnel}
    up_now = {name for name, tunnel in after.status.tunnels if tunnel}
    yield from (f"{each} is up" for each in sorted(up_now - up_before))
    yield from (f"{each} is down" for each in sorted(up_before - up_now))
    known = {_place(row) for row in before.rows or ()}
    yield from (f"refused: {_place(row)}" for row in reversed(after.rows or ()) if _place(row) not in known)
    if after.rows is None:
        places = {(each.destination, each.port, each.uid) for each in before.status.counts.blocked}
        for each in after.status.counts.blocked:
            if (each.destination, each.port, each.uid) not in places:
                yield f"refused: user {each.uid} → {each.destination} {each.protocol}" + (f" port {each.port}" if each.port else "")


def _place(row: Row) -> str:
    return f"{row.sender.name or 'unknown program'} → {row.name or row.destination}" + (f" port {row.port}" if row.port else "")

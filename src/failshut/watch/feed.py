"""What the kernel says of refused packets as it says it: each one by NFLOG, or what its sets counted where nothing is logged."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Self

from failshut.arming.armed.record import readable_record
from failshut.arming.boot.generations import CURRENT
from failshut.boot.places import ARMED_DIRECTORY
from failshut.host.filter import nft
from failshut.host.senders.answers import Answers
from failshut.host.senders.nflog import Listener, Logged
from failshut.host.senders.owners import Owners, Process
from failshut.lower.ledger import NFLOG_GROUP
from failshut.model.packet import PROTOCOL_NAMES
from failshut.read.counts import Blocked, counts
from failshut.watch.names import Names
from failshut.watch.tally import Row, Sender, Tally

# The counted sets are asked so often, in seconds.
_ASKED_EVERY = 1.0
# The niceness of a watch.
_URGENT = -15
# How long to read on what the kernel has kept when a watch ends, in seconds.
_FINISHED_WITHIN = 2.0
# So many packets are read before whoever shows them gets a turn.
_AT_ONCE = 64


class Source(StrEnum):
    """Where a watch has its packets from."""

    LOGGED = "nflog"
    COUNTED = "counted"


class Feed:
    """A watch: `more` waits for what comes and adds it up in `tally`."""

    def __init__(self) -> None:
        """Open what there is to hear. Raises `nft.NftError` or OSError where the kernel may not be asked."""
        self.tally, self.names = Tally(), Names()
        self._counted: dict[tuple[str, str, int, int], int] = {}
        self._asked = 0.0
        self._open = contextlib.ExitStack()
        listing = nft.listing(counted=True)
        self.is_armed = bool(listing.tables)
        # Why the counters are shown although the lock logs.
        self.unheard = ""
        self.source = Source.LOGGED if any(f"group {NFLOG_GROUP}" in each for each in listing.texts) else Source.COUNTED
        if self.source is Source.LOGGED:
            self._listen()
        if self.source is Source.COUNTED:
            self._compare(listing, time.time())

    def _listen(self) -> None:
        """Listen to the kernel's log. Raises OSError when somebody else does; a kernel that has none has counters."""
        # A program may be gone before its turn comes; without the privilege it is gone more often.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _URGENT)
        try:
            self._log = self._open.enter_context(Listener(NFLOG_GROUP))
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EPERM, errno.EACCES):
                raise
            self.unheard = f"this kernel's log can't be heard: {error.strerror}"
            self.source = Source.COUNTED
            return
        self._owners = self._open.enter_context(Owners(_tunnels()))
        self._answers = self._open.enter_context(Answers())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def lost(self) -> int:
        """How often packets came faster than they were read: counted in the kernel all the same, but not listed."""
        return self._log.lost if self.source is Source.LOGGED else 0

    def wait(self, within: float) -> None:
        """Wait until there is something to hear, at most `within` seconds; takes nothing."""
        if self.source is Source.LOGGED:
            select.select([self._log.fileno(), self._answers.fileno()], [], [], within)

    def more(self, within: float) -> list[Row]:
        """Wait at most `within` seconds for refused packets; return the rows that are new."""
        return self._heard(within) if self.source is Source.LOGGED else self._asked_again(within)

    def finish(self) -> None:
        """Take in what has come already, and no more."""
        until = time.monotonic() + _FINISHED_WITHIN
        before = -1
        while self.source is Source.LOGGED and time.monotonic() < until and before != self.tally.packets:
            before = self.tally.packets
            self._heard(0)

    def named(self, row: Row) -> Row:
        """Return a row with the name that its destination was asked for under."""
        return replace(row, name=self.names.of(row.destination))

    def _heard(self, within: float) -> list[Row]:
        log, answers = self._log.fileno(), self._answers.fileno()
        ready, _, _ = select.select([log, answers], [], [], within)
        if answers in ready:
            while (answer := self._answers.heard()) is not None:
                self.names.learn(answer)
        logged: list[Logged] = []
        while log in ready and len(logged) < _AT_ONCE and (found := self._log.heard(0)):
            logged += found
        owners = self._owners.of(logged)
        return [row for each, process in zip(logged, owners, strict=True) if (row := self._added(each, process))]

    def _added(self, logged: Logged, process: Process | None) -> Row | None:
        packet = logged.packet
        sender = Sender(process.name, process.pid, logged.uid, process.group) if process else Sender(uid=logged.uid)
        protocol = PROTOCOL_NAMES.get(packet.protocol or 0, str(packet.protocol))
        is_new = self.tally.add(sender, str(packet.target), protocol, packet.target_port, time.time())
        return self.named(self.tally.latest) if is_new else None

    def _asked_again(self, within: float) -> list[Row]:
        wait = min(within, max(self._asked + _ASKED_EVERY - time.monotonic(), 0.0))
        select.select([], [], [], wait)
        if time.monotonic() < self._asked + _ASKED_EVERY:
            return []
        with contextlib.suppress(nft.NftError):
            return self._compare(nft.listing(counted=True), time.time())
        return []

    def _compare(self, listing: nft.Listing, now: float) -> list[Row]:
        """Add what the sets have counted since they were asked last; at first everything, as of unknown times."""
        self._asked = time.monotonic()
        new = []
        for each, packets in self._grown(counts(listing.json_texts).blocked):
            if self.tally.add(Sender(uid=each.uid), each.destination, each.protocol, each.port or None, now, packets=packets):
                new.append(self.tally.latest)
        return new

    def _grown(self, blocked: tuple[Blocked, ...]) -> Iterator[tuple[Blocked, int]]:
        now = {(each.destination, each.protocol, each.port, each.uid): each for each in blocked}
        for key, each in now.items():
            # An element that ran out and came back counts anew.
            before = self._counted.get(key, 0)
            grown = each.packets - before if each.packets >= before else each.packets
            if grown:
                yield each, grown
        self._counted = {key: each.packets for key, each in now.items()}


def _tunnels() -> tuple[str, ...]:
    """Return the armed tunnels: what goes into them is not refused, and most of what a machine sends."""
    record = readable_record(ARMED_DIRECTORY / CURRENT)
    return record.tunnels if record else ()

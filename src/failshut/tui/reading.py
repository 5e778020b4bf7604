"""Where the view's snapshots come from on a real machine."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

from failshut.arming.armed.status import read_status
from failshut.host.filter.nft import NftError
from failshut.tui.snapshot import Snapshot, snapshot
from failshut.watch.feed import Feed, Source
from failshut.watch.tally import Row


class Reader:
    """Reads the status when it is asked, and listens to what is refused in between, where that is logged."""

    def __init__(self) -> None:
        """Listen, if anybody can."""
        self._feed: Feed | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        with contextlib.suppress(NftError, OSError):
            feed = Feed()
            if feed.source is Source.LOGGED:
                self._feed = feed
            else:
                feed.__exit__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._feed:
            self._feed.__exit__()

    def now(self) -> Snapshot:
        """Return this moment. Takes as long as `failshut status`."""
        return snapshot(read_status(), self._rows())

    def _rows(self) -> tuple[Row, ...] | None:
        if self._feed is None:
            return None
        with self._lock:
            return tuple(self._feed.named(each) for each in self._feed.tally.rows)

    def _listen(self) -> None:
        while self._feed and not self._stop.is_set():
            # Waits without the lock: only what was heard is added under it.
            self._feed.wait(0.25)
            with self._lock:
                self._feed.more(0)

"""Where the state and the events go: the status file, the list of events, the journal. A full disk is said and survived."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from failshut.host.files import PRIVATE_FILE
from failshut.host.service import journal
from failshut.model.lock import LockState
from failshut.monitor.places import Places, put
from failshut.monitor.state import Carries, Event, State

FORMAT = 1
# In bytes: when the list of events is longer, its older half goes.
MOST_EVENTS = 256 * 1024
_PUBLIC = 0o644


def status_json(state: State) -> dict[str, Any]:
    """Return the state as it stands in the status file: for everyone, so without addresses and without what was changed by whom.

    `text`, `class` and `tooltip` are what waybar's custom module reads.
    """
    down = [each for each in state.tunnels if each.carries is Carries.DOWN]
    word = "locked" if state.lock is LockState.ARMED and down else str(state.lock)
    tunnels = [f"{each.name} {each.carries}" + (f": {each.reason}" if each.reason else "") for each in state.tunnels]
    return {
        "format": FORMAT,
        "pid": os.getpid(),
        "lock": str(state.lock),
        "reason": state.reason,
        "text": word,
        "class": word,
        "tooltip": "; ".join([f"lock {state.lock}" + (f": {state.reason}" if state.reason else ""), *tunnels]),
        "tunnels": {
            each.name: {
                "state": str(each.carries),
                "reason": str(each.reason),
                "since": int(each.since),
                "handshake_at": each.handshake_at,
            }
            for each in state.tunnels
        },
        "under_ip": list(state.under_ip),
        "later": list(state.later),
        "drifts": state.drifts,
        "restored_ms": state.restored_ms,
        "troubles": list(state.troubles),
    }


@dataclass(slots=True)
class Outlets:
    """The files and the journal. Each method returns what went wrong, or nothing."""

    places: Places
    to_journal: Path = journal.SOCKET
    _last: str = field(default="")

    def publish(self, state: State) -> str:
        """Write the status file when it would say something else than before: one line, for those that read lines."""
        text = json.dumps(status_json(state), sort_keys=True) + "\n"
        if text == self._last and self.places.status.exists():
            return ""
        try:
            put(self.places.status, text, _PUBLIC)
        except OSError as error:
            return f"{self.places.status} can't be written: {error.strerror}"
        self._last = text
        return ""

    def record(self, event: Event) -> str:
        """Add one event to the list."""
        line = json.dumps({**asdict(event), "time": datetime.fromtimestamp(event.at, tz=UTC).isoformat(timespec="milliseconds")})
        path = self.places.events
        try:
            if path.exists() and path.stat().st_size > MOST_EVENTS:
                _halve(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as file:
                file.write(line + "\n")
        except OSError as error:
            return f"{path} can't be written: {error.strerror}"
        return ""

    def say(self, event: Event, message: str) -> None:
        """Write it into the journal, with its fields; on standard error where there is no journal."""
        fields = {"FAILSHUT_EVENT": str(event.kind), **{f"FAILSHUT_{name.upper()}": text for name, text in event.fields.items()}}
        journal.log(message, event.kind.priority, fields, to=self.to_journal)


def _halve(path: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    put(path, "".join(lines[len(lines) // 2 :]), PRIVATE_FILE)

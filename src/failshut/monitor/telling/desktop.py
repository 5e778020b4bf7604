"""Shows a notice in every session on this machine. A program of its own: it becomes the session's user, says it, and ends.

A bus lets nobody in but its user, not even root. What runs as the user is this file and jeepney, in a fresh interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from failshut.monitor.telling.notices import Notice
from failshut.read.visible import plain

_RUN_USER = Path("/run/user")
_PATIENCE = 5.0
_MOST_SAID, _MOST_SHOWN = 4096, 200
_APPLICATION, _ICON = "failshut", "network-vpn"


@dataclass(frozen=True, slots=True)
class Session:
    """A user who is logged in, and where the session's bus is, if there is one."""

    uid: int
    gid: int
    bus: Path


@dataclass(slots=True)
class Desktop:
    """The sessions' notices: which number each slot has in each session, so that a newer notice takes an older one's place.

    What runs as the user is in the user's hands: it may hang, which we may not end without CAP_KILL, and say whatever it likes.
    """

    run_user: Path = _RUN_USER
    patience: float = _PATIENCE
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    # Those that did not end in time, by user.
    _hanging: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def show(self, notice: Notice) -> str:
        """Show it in every session that it concerns; return what went wrong, the last of it, or nothing."""
        trouble = ""
        for session in sessions(self.run_user):
            if notice.uid not in (None, session.uid):
                continue
            number, complaint = self._show(session, notice)
            self._numbers[session.uid, notice.slot] = number
            trouble = complaint or trouble
        return trouble

    def _show(self, session: Session, notice: Notice) -> tuple[int, str]:
        """Return the notice's number, 0 where it could not be shown, and why not."""
        hanging = self._hanging.pop(session.uid, None)
        if hanging and hanging.poll() is None:
            self._hanging[session.uid] = hanging
            return 0, f"the session of user {session.uid} has not taken the last one"
        before = self._numbers.get((session.uid, notice.slot), 0)
        try:
            child = _child(session)
        except (OSError, subprocess.SubprocessError) as error:
            return 0, str(error)
        said = _asked(child, json.dumps({"notice": asdict(notice), "before": before}).encode(), self.patience)
        if child.poll() is None:
            with contextlib.suppress(OSError):
                child.kill()
            if said is None:
                self._hanging[session.uid] = child
                return 0, f"the session of user {session.uid} does not answer"
        words = (said or b"").decode(errors="replace").strip()
        return (int(words), "") if words.isdecimal() else (0, plain(words.rpartition("\n")[2])[:_MOST_SHOWN])


def sessions(run_user: Path = _RUN_USER) -> Iterator[Session]:
    """Yield the users who are logged in: pam_systemd's directories, each owned by its user, who alone may look into it."""
    for directory in sorted(run_user.glob("[0-9]*")):
        try:
            seen = directory.stat()
            if str(seen.st_uid) == directory.name:
                yield Session(seen.st_uid, seen.st_gid, directory / "bus")
        except OSError:
            continue


def _child(session: Session) -> subprocess.Popen[bytes]:
    is_other = session.uid != os.geteuid()
    return subprocess.Popen(
        [sys.executable, "-m", "failshut.monitor.telling.desktop", str(session.bus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        user=session.uid if is_other else None,
        group=session.gid if is_other else None,
        extra_groups=[] if is_other else None,
    )


def _asked(child: subprocess.Popen[bytes], question: bytes, patience: float) -> bytes | None:
    """Tell a child something and return what it says until it ends, the beginning of it; None when it has not ended in time."""
    until, said = time.monotonic() + patience, b""
    with contextlib.suppress(OSError), contextlib.ExitStack() as streams:
        for stream in (child.stdin, child.stdout):
            if stream:
                streams.callback(stream.close)
        if child.stdin and child.stdout:
            child.stdin.write(question)
            child.stdin.close()
            while len(said) < _MOST_SAID and select.select([child.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                if not (more := os.read(child.stdout.fileno(), _MOST_SAID)):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(max(until - time.monotonic(), 0))
                    return said
                said += more
    # Who says more than that is told no more of, and writes to nobody.
    return said if len(said) >= _MOST_SAID else None


def main() -> None:
    """Say the notice on standard input to the bus named on the command line; print the number that it was given."""
    # Imported here: only the child that speaks needs it.
    from jeepney import DBusAddress, new_method_call  # noqa: PLC0415
    from jeepney.io.blocking import open_dbus_connection  # noqa: PLC0415
    from jeepney.wrappers import DBusErrorResponse, unwrap_msg  # noqa: PLC0415

    if not Path(sys.argv[1]).is_socket():
        # Logged in on a terminal or over SSH: nobody to show anything to.
        return
    asked = json.load(sys.stdin)
    notice = Notice(**asked["notice"])
    place = DBusAddress("/org/freedesktop/Notifications", "org.freedesktop.Notifications", "org.freedesktop.Notifications")
    # The text is plain: a server that reads markup must not find any (Desktop Notifications Specification 1.2, "Markup").
    body = notice.body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    hints = {"urgency": ("y", notice.urgency), "desktop-entry": ("s", _APPLICATION)}
    words: tuple[Any, ...] = (_APPLICATION, asked["before"], _ICON, notice.title, body, [], hints, -1)
    with open_dbus_connection(f"unix:path={sys.argv[1]}") as connection:
        call = new_method_call(place, "Notify", "susssasa{sv}i", words)
        try:
            (number,) = unwrap_msg(connection.send_and_get_reply(call, timeout=_PATIENCE))
        except DBusErrorResponse as error:
            sys.exit(str(error))
        sys.stdout.write(str(number))


if __name__ == "__main__":
    main()

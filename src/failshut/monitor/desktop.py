"""Shows a notice in every session on this machine. A program of its own: it becomes the session's user, says it, and ends.

A bus lets nobody in but its user, not even root. What runs as the user is this file and jeepney, in a fresh interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from failshut.monitor.notices import Notice

_RUN_USER = Path("/run/user")
_PATIENCE = 5.0
_APPLICATION, _ICON = "failshut", "network-vpn"


@dataclass(frozen=True, slots=True)
class Session:
    """A user who is logged in, and where the session's bus is, if there is one."""

    uid: int
    gid: int
    bus: Path


@dataclass(slots=True)
class Desktop:
    """The sessions' notices: which number each slot has in each session, so that a newer notice takes an older one's place."""

    run_user: Path = _RUN_USER
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)

    def show(self, notice: Notice) -> str:
        """Show it in every session; return what went wrong, the last of it, or nothing."""
        trouble = ""
        for session in sessions(self.run_user):
            if notice.uid not in (None, session.uid):
                continue
            before = self._numbers.get((session.uid, notice.slot), 0)
            number, complaint = _show(session, notice, before)
            self._numbers[session.uid, notice.slot] = number
            trouble = complaint or trouble
        return trouble


def sessions(run_user: Path = _RUN_USER) -> Iterator[Session]:
    """Yield the users who are logged in: pam_systemd's directories, each owned by its user, who alone may look into it."""
    for directory in sorted(run_user.glob("[0-9]*")):
        try:
            seen = directory.stat()
            if str(seen.st_uid) == directory.name:
                yield Session(seen.st_uid, seen.st_gid, directory / "bus")
        except OSError:
            continue


def _show(session: Session, notice: Notice, before: int) -> tuple[int, str]:
    """Return the notice's number, 0 where it could not be shown, and why not."""
    is_other = session.uid != os.geteuid()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "failshut.monitor.desktop", str(session.bus)],
            input=json.dumps({"notice": asdict(notice), "before": before}),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            user=session.uid if is_other else None,
            group=session.gid if is_other else None,
            extra_groups=[] if is_other else None,
        )
        return int(done.stdout or 0), done.stderr.strip().rpartition("\n")[2]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return 0, str(error)


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

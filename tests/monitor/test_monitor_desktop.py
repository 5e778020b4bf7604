"""Notices reach a real session bus with a notification daemon on it; a session without either harms nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import notification_daemon
from failshut.drill.network.wait import until
from failshut.monitor.telling.desktop import Desktop, sessions
from failshut.monitor.telling.notices import Notice
from needed import needs

popen = subprocess.Popen
DOWN = Notice("tunnel wg0", "Locked: the tunnel is down", "wg0 <b>is</b> down & locked", 2)


@pytest.fixture
def run_user(tmp_path):
    """A directory like /run/user with this user's bus in it."""
    needs("dbus-daemon")
    home = tmp_path / str(os.geteuid())
    home.mkdir()
    argv = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address=unix:path={home}/bus"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as bus:
        try:
            assert until((home / "bus").is_socket, within=20, step=0.02)
            yield tmp_path
        finally:
            bus.kill()


@pytest.fixture
def screen(run_user):
    """The notification daemon: a line of JSON for each notice."""
    bus = run_user / str(os.geteuid()) / "bus"
    with subprocess.Popen([sys.executable, notification_daemon.__file__, str(bus)], stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout.readline() == "ready\n"
            yield daemon.stdout
        finally:
            daemon.kill()


def test_a_notice_is_shown_as_plain_text_and_a_newer_one_takes_its_place(run_user, screen):
    desktop = Desktop(run_user)

    assert desktop.show(DOWN) == ""
    assert desktop.show(Notice("lock", "The lock was changed", "put back")) == ""
    assert desktop.show(Notice("tunnel wg0", "The tunnel is back", "wg0")) == ""

    first, second, third = (json.loads(screen.readline()) for _ in range(3))
    assert first == {"number": 1, "title": DOWN.title, "body": "wg0 &lt;b&gt;is&lt;/b&gt; down &amp; locked", "urgency": 2}
    assert second["number"] == 2
    assert (third["number"], third["urgency"]) == (1, 1)


def test_a_bus_without_a_notification_daemon_is_said_and_no_more(run_user):
    assert "not provided by any .service" in Desktop(run_user).show(DOWN)


def test_a_machine_without_sessions_shows_nothing(tmp_path):
    (tmp_path / "1000").mkdir()
    (tmp_path / "strange").mkdir()

    assert list(sessions(tmp_path)) == []
    assert Desktop(tmp_path).show(DOWN) == ""


# Shows two notices without the right to end another user's program, as the unit has it; prints what went wrong.
UNPRIVILEGED = """
import subprocess, sys
from pathlib import Path
from failshut.monitor.telling import desktop
from failshut.monitor.telling.notices import Notice
def silent(session):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(["sleep", "9"], user=session.uid, group=session.gid, extra_groups=[], **pipes)
desktop._child = silent
screens = desktop.Desktop(Path(sys.argv[1]), patience=0.5)
print([screens.show(Notice("a", "b", "c")) for _ in range(2)])
"""


def test_a_session_that_never_answers_keeps_nobody_waiting(tmp_path):
    """What runs as the user may hang, or be stopped by him: it is not waited for, and no second one is started for him."""
    if os.geteuid():
        pytest.skip("needs root: it speaks to another user's session")
    (tmp_path / "1000").mkdir()
    os.chown(tmp_path / "1000", 1000, 1000)
    argv = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill", sys.executable, "-c", UNPRIVILEGED, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout == "['the session of user 1000 does not answer', 'the session of user 1000 has not taken the last one']\n", (
        done
    )


def test_what_a_session_says_is_cut_and_holds_nothing_that_a_terminal_obeys(tmp_path, monkeypatch):
    """What runs as the user says whatever the user likes."""
    (tmp_path / str(os.geteuid())).mkdir()
    loud = ["sh", "-c", "printf 'no\033[2J'; yes | tr -d '\\n'"]
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen(loud, **options))
    complaint = Desktop(tmp_path, patience=2.0).show(DOWN)

    assert complaint.startswith("no?[2Jyyy")
    assert len(complaint) <= 200


def test_a_bus_that_somebody_else_has_put_there_is_not_spoken_to(run_user):
    """A directory counts only when it belongs to the user whose number it bears."""
    (run_user / str(os.geteuid())).rename(run_user / "4242")

    assert list(sessions(run_user)) == []

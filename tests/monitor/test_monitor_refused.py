"""What is refused for the first time is said once, to whom it concerns."""

from __future__ import annotations

import pytest

from failshut.monitor.state import Event, Kind
from failshut.monitor.telling.notices import notice_of

pytestmark = pytest.mark.lab

# Sends beside the tunnel as a user; the same to the tunnel's other end, which is allowed.
SEND = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
for target, device in ((sys.argv[2], b"eth0"), ("10.99.0.1", b"")):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if device:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        try:
            sender.sendto(b"x", (target, 4000))
        except OSError:
            pass
"""


def test_what_is_refused_for_the_first_time_is_said_once(watched):
    # By then it has looked once: what was refused before is not new.
    watched.await_tunnel("up")
    watched.must("python3", "-c", SEND, "1000", "198.51.100.9")
    said = watched.await_event("refused")
    # Neither again, nor for what went through the tunnel; another place is said.
    watched.must("python3", "-c", SEND, "1000", "198.51.100.9")
    watched.must("python3", "-c", SEND, "1001", "198.51.100.10")
    later = watched.await_event("refused", 2)

    assert (said["fields"]["uid"], said["fields"]["destination"], said["fields"]["port"]) == ("1000", "198.51.100.9", "4000")
    assert "tried to reach 198.51.100.9 udp port 4000 beside the tunnel" in said["message"]
    assert (later["fields"]["uid"], later["fields"]["destination"]) == ("1001", "198.51.100.10")
    assert len(watched.events("refused")) == 2
    assert "198.51.100" not in str(watched.state())


def test_a_monitor_that_starts_says_nothing_of_what_was_before(watched):
    watched.leave_unwatched()
    watched.must("python3", "-c", SEND, "1002", "198.51.100.11")
    watched.watch_lock()
    watched.await_tunnel("up")
    watched.must("python3", "-c", SEND, "1002", "198.51.100.12")

    assert watched.await_event("refused")["fields"]["destination"] == "198.51.100.12"


@pytest.mark.parametrize(("uid", "shown_to"), [("1000", 1000), ("33", None)])
def test_where_a_user_wanted_to_go_is_shown_to_nobody_else(uid, shown_to):
    """What a service was refused concerns everybody who sits here."""
    assert notice_of(Event(Kind.REFUSED, 0, "", {"uid": uid})).uid == shown_to

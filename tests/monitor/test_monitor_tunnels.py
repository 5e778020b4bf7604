"""A tunnel that carries nothing is seen to be down, with the reason; one that is back is seen to be back."""

from __future__ import annotations

import pytest

from connected import SERVER
from failshut.monitor.state import Reason
from failshut.monitor.tunnels.look import JUMP, Clock
from watched import RUN, Watched

pytestmark = pytest.mark.lab

_NOBODY = "10.99.0.53"
# Sends for ever, to nobody behind the tunnel.
_TALK = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sock.sendto(b"x" * 999, ("10.99.0.77", 9))
    time.sleep(0.05)
"""


def test_a_tunnel_whose_server_is_silent_has_the_reason_and_is_looked_for(lab: Watched):
    """From a tunnel that never had a handshake: the link to the server first, then the address, then the server itself."""
    lab.server("ip", "addr", "del", f"{SERVER}/32", "dev", "cable")
    lab.must("wg-quick", "down", "wg0")
    lab.must("wg-quick", "up", "wg0")
    lab.watch_lock()
    lab.await_tunnel("down", Reason.NO_HANDSHAKE)
    assert "its server does not answer" in lab.await_event("tunnel-down")["message"]
    assert lab.state()["text"] == "locked"
    assert lab.read(f"{RUN}/refresh") == "wg0\n"

    key = lab.must("wg", "show", "wg0", "peers").strip()
    lab.must("wg", "set", "wg0", "peer", key, "endpoint", "203.0.113.99:51820")
    lab.await_tunnel("down", Reason.BLOCKED)
    lab.must("ip", "route", "del", "default")
    lab.await_tunnel("down", Reason.NO_NETWORK)

    lab.must("ip", "route", "add", "default", "via", "192.168.50.1", "dev", "eth0")
    lab.must("wg", "set", "wg0", "peer", key, "endpoint", f"{SERVER}:51820")
    lab.server("ip", "addr", "add", f"{SERVER}/32", "dev", "cable")
    lab.await_tunnel("up")
    assert lab.await_event("tunnel-up")["fields"]["tunnel"] == "wg0"
    assert [len(lab.events(kind)) for kind in ("tunnel-down", "tunnel-up")] == [1, 1]
    lab.tidy()


def test_a_tunnel_that_nothing_is_routed_into_is_down(watched):
    watched.await_tunnel("up")
    rules = [
        line.split(":", 1)[1].split() for line in watched.must("ip", "rule").splitlines() if "51820" in line or "0xca6c" in line
    ]
    for rule in rules:
        watched.must("ip", "rule", "del", *rule)
    try:
        watched.await_tunnel("down", Reason.NO_ROUTE)
    finally:
        watched.must("wg-quick", "down", "wg0")
        watched.must("wg-quick", "up", "wg0")


def test_a_tunnel_through_which_no_resolver_answers_is_down(watched):
    """Something is sent, nothing but keepalives comes back, and the system's resolver is silent."""
    watched.await_tunnel("up")
    watched.write("/run/resolv", f"nameserver {_NOBODY}\n")
    watched.must("mount", "--bind", "/run/resolv", "/etc/resolv.conf")
    sender = watched.start("python3", "-c", _TALK)
    try:
        watched.await_tunnel("down", Reason.NO_DNS)
    finally:
        sender.kill()
        sender.wait()
        watched.must("umount", "/etc/resolv.conf")


def test_a_tunnel_that_is_gone_is_down_at_once_and_one_that_works_is_up(watched):
    watched.await_tunnel("up")
    watched.must("wg-quick", "down", "wg0")
    watched.await_tunnel("down", Reason.NO_DEVICE)
    watched.must("wg-quick", "up", "wg0")
    watched.await_tunnel("up")
    assert watched.carries()


def test_a_clock_that_jumps_is_noticed_and_one_that_is_disciplined_is_not():
    clock = Clock()
    assert clock.jumped() == 0
    clock.offset -= 3600
    assert clock.jumped() == pytest.approx(3600, abs=1)
    assert clock.jumped() == 0
    clock.offset += JUMP / 2
    assert clock.jumped() == 0

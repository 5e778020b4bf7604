"""What has only the name of something that may be left by: a card called like the tunnel, a VLAN called like a bridge."""

from __future__ import annotations

import pytest

from grouped import INTERNET4, needs_programs
from watched import Watched

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
IPTABLES = '[backend]\nuse = "iptables"\n'
# A hundred datagrams; prints why one was refused.
SAY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(100):
    try:
        sock.sendto(b"misled", (sys.argv[1], 9001))
    except OSError as error:
        print(error)
"""


@pytest.fixture
def machine():
    needs_programs()
    with Watched() as it:
        yield it


def misled(machine: Watched, target: str) -> int:
    """Send to a target; return how many datagrams came to the cable's other end in the clear."""
    machine.watch()
    machine.must(PYTHON, "-c", SAY, target)
    return sum(each.device == "cable" and each.payload.startswith("misled") for each in machine.seen())


def test_a_card_that_is_called_like_the_tunnel_is_not_left_by(machine):
    """The tunnel is gone, and the card gets its name. The control: without the monitor a name is all that is asked for."""
    machine.arm()
    assert machine.carries()
    machine.must("ip", "link", "del", "wg0")
    machine.must("ip", "link", "set", "eth0", "name", "wg0")
    assert misled(machine, INTERNET4) > 0, "the control"
    said = machine.failshut("status")
    assert (said.returncode, "wg0 is an Ethernet device" in said.stdout) == (11, True), said.stdout
    again = machine.failshut("arm")
    assert (again.returncode, "not the tunnel of /etc/wireguard/wg0.conf" in again.stderr) == (1, True), again.stderr

    machine.start_monitor()
    machine.await_held("wg0")
    held = misled(machine, INTERNET4)
    machine.must("ip", "link", "set", "wg0", "name", "eth0")
    machine.await_held("eth0")
    machine.must("wg-quick", "up", "wg0")

    assert held == 0
    assert machine.carries()
    machine.await_status(lock="armed")


def test_what_is_called_like_a_bridge_of_the_machine_s_is_none(machine):
    """iptables has no layer under IP to hold it. The control: after arming, a name is all that the choke point has to go by."""
    machine.arm(IPTABLES)
    machine.must("ip", "link", "add", "link", "eth0", "name", "br-lan.5", "type", "macvlan", "mode", "bridge")
    machine.must("ip", "addr", "add", "192.168.77.2/24", "dev", "br-lan.5")
    machine.must("ip", "link", "set", "br-lan.5", "up")
    machine.must("ip", "neigh", "add", "192.168.77.1", "lladdr", "ff:ff:ff:ff:ff:ff", "dev", "br-lan.5")
    assert misled(machine, "192.168.77.1") > 0, "the control"

    done = machine.failshut("arm")

    assert done.returncode == 0, done.stderr
    assert misled(machine, "192.168.77.1") == 0

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

# A point-to-point device of a modem's kind (ARPHRD_PPP, linux/if_arp.h) with the tunnel's name; for each line of input it prints
# how many of the datagrams have left by it since the last.
MODEM = """
import fcntl, os, select, struct, sys
modem = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(modem, 0x400454CA, struct.pack("16sH", b"wg0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
fcntl.ioctl(modem, 0x400454CD, 512)  # TUNSETLINK
print("ready", flush=True)
left = 0
while True:
    ready, _, _ = select.select([modem, sys.stdin], [], [])
    if modem in ready:
        left += b"misled" in os.read(modem, 2048)
    elif sys.stdin.readline():
        print(left, flush=True)
        left = 0
    else:
        break
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
    assert (said.returncode, "wg0 is a card or modem" in said.stdout) == (11, True), said.stdout
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


def test_a_modem_that_is_called_like_the_tunnel_is_not_left_by(machine):
    """It carries bare packets, as a tunnel does. The control: without the monitor a name is all that is asked for."""
    machine.arm()
    machine.must("wg-quick", "down", "wg0")
    modem = machine.start(PYTHON, "-c", MODEM)
    assert modem.stdout.readline() == "ready\n"
    for line in ("link set wg0 up", "addr add 10.64.0.2/32 dev wg0", f"route add {INTERNET4} dev wg0"):
        machine.must("ip", *line.split())

    def left() -> int:
        machine.must(PYTHON, "-c", SAY, INTERNET4)
        modem.stdin.write("\n")
        modem.stdin.flush()
        return int(modem.stdout.readline())

    assert left() > 0, "the control"
    said = machine.failshut("status")
    assert (said.returncode, "wg0 is a card or modem" in said.stdout) == (11, True), said.stdout

    machine.start_monitor()
    machine.await_held("wg0")
    held = left()
    modem.communicate()

    assert held == 0


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

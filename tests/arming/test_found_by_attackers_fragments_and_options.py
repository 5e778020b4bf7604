"""What is decided by rules that a fragment, or an option that is unfit, does not meet; and a lock file that anybody may hold."""

from __future__ import annotations

import json
import socket

import pytest

from amount import thorough
from failshut.drill.network.wait import until
from grouped import INTERNET4, ROUTER4, Grouped

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NET_RAW = (*USER, "--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw", "--bounding-set=-all,+net_raw")
INNER = "10.99.0.1"
LAN = '[allow.lan]\nprefixes = ["192.168.50.0/24"]\n'
OUTSIDE = '[outside]\nprefixes = ["198.51.100.0/24"]\n'

HEAR = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.99.0.2", 7777))
sock.settimeout(5)
print("ready", flush=True)
try:
    print(sock.recv(99).decode())
except TimeoutError:
    print("nothing")
"""
# Half of a datagram of 16 bytes: the first by the tunnel, the second by whatever device is named.
HALF = """
import socket, struct, sys
device, to, which = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 65535)
    return ~(total + (total >> 16)) & 65535
part = struct.pack("!HHHH", 5000, 7777, 24, 0) + b"GENUINE " if which == "first" else sys.argv[4].encode().ljust(8)
head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), 4242, 0x2000 if which == "first" else 2, 64, 17, 0)
head += socket.inet_aton("10.99.0.1") + socket.inet_aton("10.99.0.2")
head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).sendto(head + part, (device, 0x800, 0, 1, to))
"""
DETOUR = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes.fromhex(sys.argv[1]))
try:
    sock.sendto(b"detour", ("203.0.113.99", 9001))
except OSError as error:
    print(error)
"""
HOLD = """
import fcntl, time
held = open("/run/failshut-portal.lock")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""
# A record of the route with room for no whole address more, once the first is in it: the kernel sends it, and can't read it again.
RECORD = bytes((7, 8, 4, 0, 0, 0, 0, 0))
# A timestamp that is full, and has overflowed as often as it can.
STAMPS = bytes((68, 8, 5, 0xF0, 0, 0, 0, 0))


@pytest.fixture
def machine():
    with Grouped() as it:
        yield it


def test_nobody_on_the_link_writes_into_a_datagram_of_the_tunnel(machine):
    """A second half from the cable, for the tunnel's address, waits in the kernel for the first, which comes by the tunnel.

    The control: both halves by the tunnel arrive.
    """
    machine.arm(LAN)
    assert machine.carries()
    eth0 = json.loads(machine.must("ip", "-j", "link", "show", "eth0"))[0]["address"].replace(":", "")

    def heard(device: str, to: str, word: str) -> str:
        hearing = machine.start(PYTHON, "-c", HEAR)
        assert hearing.stdout.readline() == "ready\n"
        machine.server(PYTHON, "-c", HALF, device, to, "second", word)
        machine.server(PYTHON, "-c", HALF, "served", "", "first")
        return hearing.stdout.readline().strip()

    assert heard("served", "", "too") == "GENUINE too", "the control"
    assert "FORGED" not in heard("cable", eth0, "FORGED")


@pytest.mark.parametrize(
    ("unfit", "kind", "via"),
    [
        pytest.param(RECORD, 131, ROUTER4, id="record-loose"),
        pytest.param(RECORD, 137, ROUTER4, id="record-strict"),
        pytest.param(STAMPS, 131, INTERNET4, id="timestamps-loose-outside"),
        pytest.param(RECORD, 131, INTERNET4, id="record-loose-outside", marks=thorough),
        pytest.param(STAMPS, 131, ROUTER4, id="timestamps-loose", marks=thorough),
        pytest.param(STAMPS, 137, ROUTER4, id="timestamps-strict", marks=thorough),
    ],
)
def test_a_source_route_beside_an_unfit_option_leads_nothing_out(machine, unfit, kind, via):
    """`ip option lsrr exists` is false where the kernel can't read the options. The control: unlocked it leaves as well."""
    machine.arm(LAN, OUTSIDE)
    options = unfit + bytes((kind, 7, 4)) + socket.inet_aton(via) + b"\0"

    def sent() -> list[str]:
        machine.watch()
        machine.run(*NET_RAW, PYTHON, "-c", DETOUR, options.hex())
        return [each.target for each in machine.seen() if each.device == "cable" and "detour" in each.payload]

    locked = sent()
    for family in ("inet", "netdev"):
        machine.must("nft", "delete", "table", family, "failshut")
    assert sent(), "the control"
    assert locked == []


def test_nobody_but_root_keeps_the_machine_from_signing_in(machine):
    """The lock file of `portal` stays, and everybody may read it: who may read may flock(2). The control: before, it is at work."""
    machine.arm("[allow]\nportal = true")

    def says() -> str:
        done = machine.failshut("portal", "--resolver", ROUTER4, env={"SUDO_UID": "65534"})
        return done.stdout + done.stderr

    assert "at work" not in says(), "the control"
    holding = machine.start(*USER, PYTHON, "-c", HOLD)
    until(lambda: holding.poll() is not None or "FLOCK" in machine.must("cat", "/proc/locks"), within=5)
    said = says()
    holding.kill()
    assert "at work" not in said

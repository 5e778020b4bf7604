"""A tunnel inside a tunnel: programs use the inner one, the outer carries nothing but that. Judged where each tunnel ends."""

from __future__ import annotations

import pytest

from connected import INNER
from grouped import needs_programs
from two_tunnels import FAR, INNER_MARK, SECOND, TwoTunnels

pytestmark = [pytest.mark.lab, pytest.mark.scenario(17, 110)]

POLICY = '[tunnel.wg2]\nconfig = "/etc/wireguard/wg2.conf"\nthrough = "wg0"\n[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n'
# A word to each site, by a device or with a mark of root's own; "-" for neither.
SAY = """
import socket, sys
word, device, mark = sys.argv[1:4]
for site in sys.argv[4:]:
    host, _, port = site.rpartition("/")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if device != "-":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if mark != "-":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(mark))
        try:
            sock.sendto(word.encode(), (host, int(port)))
        except OSError:
            pass
"""

# For longer than WireGuard waits between two attempts at a handshake, 5 s (REKEY_TIMEOUT).
INSIST = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for _ in range(20):
        try:
            sock.sendto(b"knock", (sys.argv[1], 9001))
        except OSError:
            pass
        time.sleep(0.4)
"""


@pytest.fixture
def hops():
    """Two tunnels that are up, one inside the other, and the lock on both."""
    needs_programs()
    with TwoTunnels() as both:
        both.write("/etc/failshut/failshut.toml", POLICY)
        done = both.failshut("arm")
        assert done.returncode == 0, done.stdout + done.stderr
        yield both


def say(machine, word: str, *sites: str, device: str = "-", mark: str = "-") -> None:
    machine.must("python3", "-c", SAY, word, device, mark, *sites)


def knock(machine) -> None:
    """Make the inner tunnel shake hands anew; said again, its endpoint is no more bound to the address it was last reached from."""
    peer = machine.must("wg", "show", "wg2", "peers").strip()
    machine.must("wg", "set", "wg2", "peer", peer, "endpoint", f"{INNER}:51821")
    machine.must("python3", "-c", INSIST, SECOND)


def heard(frames, device: str) -> set[str]:
    return {each.payload for each in frames if each.device == device and each.payload.isalpha()}


def test_programs_use_both_hops_and_nothing_but_the_inner_tunnel_uses_the_outer(hops):
    """What a program sends by the outer tunnel's device is refused; through the inner one it arrives at the second server."""
    hops.watch("cable", "served", "second")

    say(hops, "inner", f"{SECOND}/9001", f"{FAR}/9001")
    say(hops, "outer", f"{FAR}/9001", f"{INNER}/9001", device="wg0")
    say(hops, "marked", f"{FAR}/9001", f"{INNER}/51821", mark=str(INNER_MARK))
    frames = hops.seen()

    assert "inner" in heard(frames, "second")
    # Root with the inner tunnel's mark is taken for wireguard-go, and may say to its endpoint's port what it likes; nowhere else.
    assert heard(frames, "served") <= {"marked"}
    assert {(each.target, each.port) for each in frames if each.payload == "marked"} <= {(INNER, 51821)}
    assert not heard(frames, "cable")


def test_the_control_without_the_lock_the_outer_tunnel_takes_what_a_program_gives_it(hops):
    """The same attack is seen to pass."""
    for family in ("inet", "netdev"):
        hops.must("nft", "delete", "table", family, "failshut")
    hops.watch("cable", "served", "second")

    say(hops, "outer", f"{FAR}/9001", device="wg0")

    assert "outer" in heard(hops.seen(), "served")


def test_without_the_outer_tunnel_the_inner_ones_packets_stay_at_home(hops):
    """The inner tunnel's transport has another way, by the underlay, and no routing of ours before it: it is not taken."""
    hops.must("ip", "link", "del", "wg0")
    hops.route("clear")
    hops.must("ip", "route", "replace", f"{INNER}/32", "via", "192.168.50.1", "dev", "eth0", "onlink")
    hops.watch("cable")

    say(hops, "inner", f"{SECOND}/9001", f"{FAR}/9001")
    knock(hops)
    frames = hops.seen()

    assert not [each for each in frames if each.port == 51821 or each.target == INNER]
    assert not heard(frames, "cable")
    for family in ("inet", "netdev"):
        hops.must("nft", "delete", "table", family, "failshut")
    hops.watch("cable")
    knock(hops)
    assert [each for each in hops.seen() if each.port == 51821], "the control: without the lock its handshake takes the underlay"


def test_a_frame_written_below_ip_does_not_enter_the_outer_tunnel(hops):
    """A packet socket on the outer tunnel's own device. The control: without the layer under IP the server hears it."""
    frame = """
import socket, struct
body = struct.pack("!HHHH", 5, 9001, 14, 0) + b"rawout"
ends = socket.inet_aton("10.99.0.2") + socket.inet_aton("198.51.100.7")
head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0) + ends
total = sum(struct.unpack("!10H", head)); total = (total >> 16) + (total & 65535)
head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 65535) + head[12:]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
try:
    sock.sendto(head + body, ("wg0", 0x800))
except OSError as error:
    print(error)
"""

    def heard_at_server() -> set[str]:
        hops.watch("served")
        hops.must("python3", "-c", frame)
        return heard(hops.seen(), "served")

    assert heard_at_server() == set()
    hops.must("nft", "delete", "table", "netdev", "failshut")
    assert heard_at_server() == {"rawout"}

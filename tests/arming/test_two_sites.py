"""Two networks that call each other by the tunnel and their own addresses: nobody else does, and nothing leaves in the clear."""

from __future__ import annotations

import pytest

from amount import thorough
from boot import noise
from failshut.drill.network.wait import until
from gateway import FLOW4, FLOW6, KEEP_SENDING, TUNNEL_ADDRESSES, Gateway
from needed import needs_root_and

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

CLIENTS = 'mode = "tunnel"\nclients = ["eth1"]\n'
SITES = f'{CLIENTS}local = ["10.1.0.0/24", "fd01::/64"]\nremote = ["10.77.0.0/24", "fd77::/64"]\n'
IPTABLES = '\n[backend]\nuse = "iptables"\n'
# Of the other site, and behind the same server, but of no site.
OFFICE4, OFFICE6, NOBODY4, NOBODY6 = "10.77.0.9", "fd77::9", "10.78.0.9", "fd78::9"
CLIENT4, CLIENT6 = "10.1.0.2", "fd01::2"
PORT = 9100
# In seconds, for what must be answered: a busy machine takes its time.
PATIENT = 15
_SERVICE = f"""
import socket
listening = socket.create_server(("", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    caller, (address, *_) = listening.accept()
    caller.sendall(address.removeprefix("::ffff:").encode())
    caller.close()
"""
# Says what the service called it, or nothing.
_ASK = """
import socket, sys
site, port, source, device, seconds = sys.argv[1:]
asking = socket.socket(socket.AF_INET6 if ":" in site else socket.AF_INET)
asking.settimeout(float(seconds))
if device:
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
if source:
    asking.bind((source, 0))
try:
    asking.connect((site, int(port)))
    print(asking.recv(99).decode(), end="")
except OSError:
    pass
"""
# From one site to the other, as fast as it goes: datagrams, and a connection that is opened before.
_PUMP = f"""
import socket, sys, time
pumps = []
for source, site in zip(sys.argv[1::2], sys.argv[2::2]):
    family = socket.AF_INET6 if ":" in site else socket.AF_INET
    pumps.append(socket.create_connection((site, {noise.PORT}), 10, (source, 0)))
    pumps.append(socket.socket(family, socket.SOCK_DGRAM))
    pumps[-1].bind((source, 0))
    pumps[-1].connect((site, 7008))
{KEEP_SENDING}"""


@pytest.fixture
def machine():
    """A branch's gateway whose lock is off; the server is the office's, and two hosts behind it."""
    needs_root_and("nft", "iptables-restore", "wg", "wg-quick", "ip", "unshare", "nsenter")
    with Gateway() as gateway:
        for each in (OFFICE4, OFFICE6, NOBODY4, NOBODY6):
            gateway.server("ip", "addr", "add", each, "dev", "lo", *(("nodad",) if ":" in each else ()))
        # The server has a way to the branch by the cable too: whoever sits there may try it.
        for line in (
            "route add 10.1.0.0/24 via 192.168.50.2 dev cable metric 500",
            "-6 route add fd01::/64 via fd50::2 dev cable metric 5000",
        ):
            gateway.server("ip", *line.split())
        for host in (None, gateway.client, gateway.stranger):
            assert (host or gateway).start("python3", "-c", _SERVICE).stdout.readline() == "listening\n"
        assert gateway.at_server("python3", "-c", _SERVICE).stdout.readline() == "listening\n"
        yield gateway


def called(machine: Gateway, site: str, source: str, device: str = "", seconds: float = 1) -> str:
    """Return what a service behind the machine calls a caller behind the server; nothing where it isn't reached."""
    return machine.server("python3", "-c", _ASK, site, str(PORT), source, device, str(seconds))


def calls(machine: Gateway, site: str, seconds: float = 1) -> str:
    """Return what a service behind the server calls the machine's client."""
    return machine.client.must("python3", "-c", _ASK, site, str(PORT), "", "", str(seconds))


def lead_the_office_astray(machine: Gateway) -> None:
    """The tunnel is up, and routes as from a rogue DHCP server lead to the other site by the cable."""
    for line in ("route add 10.77.0.0/24 via 192.168.50.1 dev eth0", "-6 route add fd77::/64 via fd50::1 dev eth0"):
        machine.must("ip", *line.split())
    for family in ("-4", "-6"):
        machine.must("ip", family, "rule", "add", "preference", "5", "lookup", "main")


def pump(machine: Gateway) -> None:
    """Open flows from one site to the other, and go on sending."""
    started = machine.client.start("python3", "-c", _PUMP, CLIENT4, OFFICE4, CLIENT6, OFFICE6)
    assert started.stdout.readline() == "connected\n"


def clear(seen) -> set[tuple[str, str]]:
    """Return who sent to whom in the clear, of the two sites."""
    pairs = {(str(each.packet.source), str(each.packet.target)) for each in seen.at("eth0")}
    return {each for each in pairs if set(each) & {OFFICE4, OFFICE6, CLIENT4, CLIENT6}}


def test_without_the_lock_anybody_calls_and_the_sites_talk_in_the_clear(machine):
    """The control: whoever is behind the server reaches client, stranger and machine; routes that lie lead it all to the cable."""
    machine.adopt(SITES)

    assert [called(machine, CLIENT4, each, seconds=PATIENT) for each in (OFFICE4, NOBODY4)] == [OFFICE4, NOBODY4]
    assert [called(machine, CLIENT6, each, seconds=PATIENT) for each in (OFFICE6, NOBODY6)] == [OFFICE6, NOBODY6]
    assert [called(machine, each, OFFICE4, seconds=PATIENT) for each in ("10.2.0.2", "10.1.0.1")] == [OFFICE4] * 2
    pump(machine)
    with machine.watched() as seen:
        lead_the_office_astray(machine)
        assert called(machine, CLIENT4, OFFICE4, "cable", PATIENT) == OFFICE4
        calls(machine, OFFICE4)
        machine.client.make_noise()
    assert clear(seen) >= {(CLIENT4, OFFICE4), (CLIENT6, OFFICE6)}


@pytest.mark.scenario(112, 113)
@pytest.mark.parametrize("backend", ["", IPTABLES], ids=["nftables", "iptables"])
def test_two_sites_call_each_other_by_their_own_addresses_and_nobody_else_calls(machine, backend):
    """Both ways, both families. What goes elsewhere has the tunnel's address."""
    machine.adopt(f"{SITES}{backend}")
    machine.arm()

    with machine.watched() as up:
        assert until(lambda: called(machine, CLIENT4, OFFICE4) == OFFICE4, within=20)
        assert called(machine, CLIENT6, OFFICE6, seconds=PATIENT) == OFFICE6
        assert (calls(machine, OFFICE4), calls(machine, OFFICE6)) == (CLIENT4, CLIENT6)
        assert machine.client.connects(FLOW4)
        assert machine.client.connects(FLOW6)
        for caller, site in ((NOBODY4, CLIENT4), (NOBODY6, CLIENT6), (OFFICE4, "10.2.0.2")):
            assert called(machine, site, caller) == "", (caller, site)
        assert called(machine, CLIENT4, OFFICE4, "cable") == "", "by the cable"

    assert up.leaks == []
    assert {source for source, target in up.pairs if target in (FLOW4, FLOW6)} == TUNNEL_ADDRESSES
    assert {(CLIENT4, OFFICE4), (CLIENT6, OFFICE6)} <= set(up.pairs)
    assert [each for each in up.at("stranger") if str(each.packet.source) == OFFICE4] == []


@pytest.mark.scenario(112, 113)
@pytest.mark.parametrize("backend", ["", pytest.param(IPTABLES, marks=thorough)], ids=["nftables", "iptables"])
def test_what_the_sites_say_never_leaves_in_the_clear(machine, backend):
    """Under flows that were there before: routes that lie, then the tunnel taken down, then up again."""
    machine.adopt(f"{SITES}{backend}")
    machine.arm()
    assert until(lambda: called(machine, CLIENT4, OFFICE4) == OFFICE4, within=20)
    pump(machine)
    machine.client.make_noise()
    with machine.watched() as astray:
        lead_the_office_astray(machine)
        calls(machine, OFFICE4)
        machine.client.hear_noise()
    for family, network in (("-4", "10.77.0.0/24"), ("-6", "fd77::/64")):
        machine.must("ip", family, "rule", "del", "preference", "5")
        machine.must("ip", family, "route", "del", network)
    machine.must("wg-quick", "down", "wg0")
    with machine.watched() as down:
        assert called(machine, CLIENT4, OFFICE4) == calls(machine, OFFICE4) == ""
        machine.client.hear_noise()
    machine.must("wg-quick", "up", "wg0")

    assert astray.leaks == down.leaks == []
    assert clear(astray) == clear(down) == set()
    assert until(lambda: called(machine, CLIENT4, OFFICE4) == OFFICE4 and calls(machine, OFFICE4) == CLIENT4, within=20)

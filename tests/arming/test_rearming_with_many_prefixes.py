"""A lock with a long list of prefixes is replaced under a flood: its load takes long enough for any gap to be met."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network

import pytest

from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.model.host import HostFacts
from failshut.model.policy import Outside, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Port
from sandbox import Sandbox

# 100,000 by hand: it takes as many seconds as this has tenths.
PREFIXES = int(os.environ.get("FAILSHUT_PREFIXES", "10000"))
RELOADS = 3

# Sends to a site that nothing allows until a line comes in; prints how much was tried, and how much came out at the cable's end.
FLOOD = """
import select, socket, sys
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
cable.bind(("cable", 0))
cable.setblocking(False)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(("198.51.100.7", 9999))
tried = seen = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(20):
        tried += 1
        try:
            sender.send(b"in the clear")
        except OSError:
            pass
    try:
        while True:
            seen += b"in the clear" in cable.recv(2048)
    except BlockingIOError:
        pass
print(tried, seen)
"""


@pytest.fixture
def machine():
    with Sandbox() as sandbox:
        sandbox.run("ip", "route", "add", "default", "via", "192.168.50.1")
        sandbox.run("ip", "neigh", "add", "192.168.50.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
        yield sandbox


@pytest.mark.scenario(60, 91)
def test_no_packet_leaves_while_a_lock_of_many_prefixes_is_replaced(machine):
    """The same lock and another in turns; the control: without any, the flood is seen."""
    texts = [_lock(PREFIXES), _lock(PREFIXES - 1)]
    assert machine.run("nft", "-f", "-", stdin=texts[0]).returncode == 0
    tried, seen = _during(machine, lambda: [machine.run("nft", "-f", "-", stdin=texts[turn % 2]) for turn in range(1, RELOADS + 1)])

    assert (tried > 1000, seen) == (True, 0)

    _, seen = _during(machine, lambda: [machine.run("nft", "flush", "ruleset"), machine.run("ip", "-s", "link")])
    assert seen > 0, "the control: without the lock it leaves"


def _during(machine: Sandbox, work) -> tuple[int, int]:
    flood = machine.start("python3", "-c", FLOOD)
    assert flood.stdout.readline() == "ready\n"
    done = work()
    out, _ = flood.communicate("stop\n")
    assert all(each.returncode == 0 for each in done), done
    tried, seen = map(int, out.split())
    return tried, seen


def _lock(count: int) -> str:
    prefixes = tuple(ip_network((0x14000000 + number * 512, 24)) for number in range(count))
    tunnel = Tunnel(InterfaceName("wg0"), (Endpoint(ip_address("203.0.113.10"), Port(51820)),))
    return emit(lower(Policy((tunnel,), outside=Outside(prefixes)), HostFacts(underlay=(InterfaceName("eth0"),))))

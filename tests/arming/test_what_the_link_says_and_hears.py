"""What leaves below IP for the link's own devices, and what arrives in the server's name."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.lab

FRAMES = 200
# Link aggregation (IEEE 802.1AX) by a raw socket: `FRAMES` on one device, then one on another.
_FLOOD = f"""
import json, socket
from failshut.drill.attacker import craft
from failshut.drill.judgement.judge import LACP_GROUP
from failshut.drill.network.wait import until
LACP, MARK = 0x8809, bytes((1, 1, 1, 20))
def at(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(LACP))
    sock.bind((device, LACP))
    sock.setblocking(False)
    return sock
def count(sock):
    frames = 0
    while True:
        try:
            frames += sock.recvfrom(2048)[1][2] != socket.PACKET_OUTGOING
        except BlockingIOError:
            return frames
ends = [at("cable"), at("cable1")]
mac = craft.BROADCAST_MAC.replace("ff", "02")
frame = craft.ethernet(LACP_GROUP, mac, LACP, MARK + bytes(106))
for device, times in (("eth0", {FRAMES}), ("eth1", 1)):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        for _ in range(times):
            try:
                sock.sendto(frame, (device, LACP))
            except OSError:
                pass
# A veth delivers within the call, or with the next interrupt: the last one's arrival tells.
seen = [0, 0]
def all_came():
    seen[0] += count(ends[0])
    seen[1] += count(ends[1])
    return seen[1] == 1
until(all_came, within=3)
print(json.dumps(seen))
"""
# A datagram that has the server's address and port, from the other end of the cable, to each of the ports; which of them heard it.
_FORGE = """
import ctypes, json, socket, sys
from ipaddress import ip_address
from failshut.drill.attacker import craft
from failshut.drill.network.wait import until
from failshut.model.packet import ETHERTYPE_IPV4, UDP
ports = [int(each) for each in sys.argv[1:]]
ears = {}
for port in ports:
    ears[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ears[port].bind(("", port))
    ears[port].setblocking(False)
mac = open("/sys/class/net/eth0/address").read().strip()
# What is made from here on is at the other end of the cable.
with open("/run/netns/world") as world:
    assert ctypes.CDLL(None).setns(world.fileno(), 0) == 0
server, own = ip_address("203.0.113.10"), ip_address("192.168.50.2")
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    for port in ports:
        payload = craft.ipv4(server, own, UDP, craft.udp(server, own, (51820, port), b"forged"))
        wire.sendto(craft.ethernet(mac, mac, ETHERTYPE_IPV4, payload), ("cable", 0))
heard = set()
def listen():
    for port, ear in ears.items():
        try:
            ear.recv(64)
            heard.add(port)
        except BlockingIOError:
            pass
    # The last port that is called always hears.
    return ports[-1] in heard
until(listen, within=3)
print(json.dumps(sorted(heard)))
"""


def _said(sandbox, script: str, *argv: str):
    done = sandbox.run(sys.executable, "-c", script, *argv)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.scenario(105)
def test_who_floods_one_device_does_not_silence_anothers_link_aggregation(sandbox):
    second = "ip link add eth1 type veth peer name cable1 && ip link set eth1 up && ip link set cable1 up"
    assert not sandbox.run("sh", "-c", second).returncode
    sandbox.adopt_example()
    assert _said(sandbox, _FLOOD) == [FRAMES, 1], "the control: without the lock every frame arrives"
    assert not sandbox.failshut("arm").returncode
    flooded, other = _said(sandbox, _FLOOD)
    assert 0 < flooded < FRAMES
    assert other == 1


def test_who_forges_the_server_reaches_no_service_of_the_system(sandbox):
    """Ports from 1024 on hear it: there the tunnel's own may be, and its server may be the first to speak."""
    ports = ("53", "68", "123", "1023", "40000")
    # With a way back, without which the kernel drops what comes from a stranger.
    world = "ip netns add world && ip link set cable netns world && ip -n world link set cable up"
    assert not sandbox.run("sh", "-c", f"{world} && ip route add default via 192.168.50.1").returncode
    sandbox.adopt_example()
    assert _said(sandbox, _FORGE, *ports) == [int(each) for each in ports], "the control: without the lock every service hears it"
    assert not sandbox.failshut("arm").returncode
    assert _said(sandbox, _FORGE, *ports) == [40000]

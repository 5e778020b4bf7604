"""The taps' filter in the kernel: all that leaves, and of what comes in only what may open a connection to a service."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.lab

_TAP = """
import json, socket
from failshut.read.frame import decode
from failshut.host.senders.bpf import attach
from failshut.verify.filter import program
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
attach(tap, program([2222, 2224]))
tap.bind(("eth0", 3))
print("ready", flush=True)
seen = set()
while len(seen) < 6:
    frame, (_, _, direction, _, _) = tap.recvfrom(65536)
    packet = decode(frame)
    if packet.target_port in (2222, 2223, 2224, 9999):
        seen.add((packet.source.version, "out" if direction == 4 else "in", packet.target_port))
print(json.dumps(sorted(seen)))
"""
_SEND = """
import socket
for port in {ports}:
    for family, address in ((socket.AF_INET, "{four}"), (socket.AF_INET6, "{six}")):
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, port))
"""


def test_only_a_services_ports_come_through_and_everything_that_leaves(machine):
    """In both families: of the ports that are asked for, and between them of one that is not; and what the machine sends."""
    tap = machine.start(sys.executable, "-c", _TAP)
    assert tap.stdout.readline() == "ready\n"

    machine.must("python3", "-c", _SEND.format(ports=[9999], four="192.168.50.1", six="fd50::1"))
    machine.server("python3", "-c", _SEND.format(ports=[2222, 2223, 2224], four="192.168.50.2", six="fd50::2"))
    seen = json.loads(tap.communicate(timeout=30)[0])

    assert seen == [[4, "in", 2222], [4, "in", 2224], [4, "out", 9999], [6, "in", 2222], [6, "in", 2224], [6, "out", 9999]]

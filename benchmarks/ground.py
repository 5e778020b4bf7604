"""Private network namespaces to measure in, and the CPU that a packet costs there."""

from __future__ import annotations

import ctypes
import platform
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_SO_MARK = 36
# So few that a round takes a few milliseconds: what else the machine does then falls on all alike.
PACKETS = 2000
_WARM = 100

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAYLOAD = bytes(100)

_SETUP = """link set lo up
link add eth0 type veth peer name cable
link add wg0 type veth peer name other
address add 192.168.50.2/24 dev eth0
address add 10.99.0.2/24 dev wg0
link set eth0 up
link set cable up
link set wg0 up
link set other up
route add 203.0.113.0/24 via 192.168.50.1
route add 198.51.100.0/24 via 192.168.50.1
route add 20.0.0.0/8 via 192.168.50.1
neigh add 192.168.50.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add 10.99.0.1 lladdr 02:00:00:00:00:02 dev wg0
"""


@dataclass(frozen=True, slots=True)
class Flow:
    """Small UDP packets of one program to one place, with a mark or without."""

    address: str
    port: int
    mark: int = 0


TUNNEL = Flow("10.99.0.1", 9)
TRANSPORT = Flow("203.0.113.10", 51820, 0xCA6C)
BLOCKED = Flow("198.51.100.9", 9)


class Ground:
    """A network namespace with an underlay device and a stand-in for a tunnel; lives as long as its sockets do."""

    def __init__(self, load: Callable[[], None]) -> None:
        """Enter a new namespace, build it, and load rules there. The sockets that are made next are its own."""
        if _LIBC.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        must("ip", "-batch", "-", stdin=_SETUP)
        load()
        self._sockets: dict[Flow, socket.socket] = {}

    def open(self, *flows: Flow) -> Self:
        """Make the flows' sockets. Only right after the namespace was entered."""
        for flow in flows:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            if flow.mark:
                sender.setsockopt(socket.SOL_SOCKET, _SO_MARK, flow.mark)
            sender.connect((flow.address, flow.port))
            self._sockets[flow] = sender
        return self

    def cost(self, flow: Flow, packets: int = PACKETS) -> float:
        """Return the CPU, in ns, that the kernel spends on a packet of the flow."""
        if flow is BLOCKED:
            # Not by Python's own send: an exception for each would cost more than the packet.
            descriptor = self._sockets[flow].fileno()
            return _per_call(lambda: _LIBC.send(descriptor, _PAYLOAD, len(_PAYLOAD), 0), packets) - _EMPTY_CALL
        send = self._sockets[flow].send
        for _ in repeat(None, _WARM):
            send(_PAYLOAD)
        begin = _now()
        for _ in repeat(None, packets):
            send(_PAYLOAD)
        return (_now() - begin) / packets - _EMPTY_SEND


def must(*argv: str, stdin: str | None = None) -> str:
    """Run a program that must succeed, and return what it said."""
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout


def described() -> str:
    """Return the machine in a line: kernel, tools, processor."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    nft = must("nft", "--version").split()[1]
    iptables = must("iptables-nft", "--version").split()[1]
    return f"Linux {platform.release().split('-')[0]}, nft {nft}, iptables {iptables}, {processor}"


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)


def _per_call(call: Callable[[], object], calls: int) -> float:
    for _ in repeat(None, _WARM):
        call()
    begin = _now()
    for _ in repeat(None, calls):
        call()
    return (_now() - begin) / calls


def _least(call: Callable[[], object]) -> float:
    return min(_per_call(call, PACKETS) for _ in range(30))


def _empty_send() -> float:
    method = _PAYLOAD.startswith
    best = float("inf")
    for _ in range(30):
        begin = _now()
        for _ in repeat(None, PACKETS):
            method(_PAYLOAD)
        best = min(best, (_now() - begin) / PACKETS)
    return best


# What the loop itself costs, in ns: no kernel's work, and no part of a packet's cost.
_EMPTY_SEND = _empty_send()
_EMPTY_CALL = _least(lambda: _LIBC.memcmp(_PAYLOAD, _PAYLOAD, 0, 0))

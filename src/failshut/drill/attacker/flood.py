"""A flood from several processes: as many packets as two halves of a processor can make, counted where they are sent."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import NoReturn, Self

from failshut.drill.attacker import craft
from failshut.drill.lab import Lab
from failshut.drill.network.wait import pace
from failshut.model.packet import TCP
from failshut.model.units import Address

# A volley is shorter than any gap between two loads that it is to find.
BATCH = 50


class Flood:
    """Processes that send until they are stopped. The counts live in shared memory, one slot a process."""

    def __init__(self, lab: Lab, targets: dict[int, Address]) -> None:
        self._lab = lab
        self._targets = targets
        self._shared = mmap.mmap(-1, 4096)
        self._children: list[int] = []

    def start(self) -> Self:
        """Start one process for UDP, one for TCP and raw packets; the lab counts what they send."""
        self._lab.counters.append(lambda: self.sent)
        for slot, sender in enumerate((self._udp, self._tcp_and_raw)):
            child = os.fork()
            if child == 0:
                self._child(slot, sender)
            self._children.append(child)
        return self

    def stop(self) -> None:
        """End the flood."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._children = []

    @property
    def sent(self) -> int:
        """How many packets were handed to the kernel so far, refused ones included."""
        return int(sum(struct.unpack_from("QQ", self._shared)))

    def _child(self, slot: int, sender: Callable[[], Callable[[], int]]) -> NoReturn:
        try:
            with self._lab.client.inside():
                step, count = sender(), 0
                while True:
                    began = time.process_time()
                    count += step()
                    struct.pack_into("Q", self._shared, slot * 8, count)
                    # It rests as long as it worked: on a busy machine too, what loads the lock must get its turn.
                    pace(time.process_time() - began)
        finally:
            os._exit(1)

    def _udp(self) -> Callable[[], int]:
        sockets = []
        for version, target in self._targets.items():
            sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
            sock.connect((str(target), 7002))
            sockets.append(sock)
        return lambda: sum(_volley(each) for each in sockets)

    def _tcp_and_raw(self) -> Callable[[], int]:
        raw, packets = [], []
        for version, target in self._targets.items():
            source = self._lab.own_address(version)
            sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
            sock.connect((str(target), 0))
            raw.append(sock)
            packets.append(craft.ip(source, target, TCP, craft.tcp(source, target, (40000, 443), craft.SYN)))

        def step() -> int:
            sent = sum(_volley(sock, packet) for sock, packet in zip(raw, packets, strict=True))
            return sent + sum(_syn(version, target) for version, target in self._targets.items())

        return step


def _volley(sock: socket.socket, data: bytes = b"flood") -> int:
    send, flags = sock.send, socket.MSG_DONTWAIT
    for _ in range(BATCH):
        try:
            send(data, flags)
        except OSError:
            continue
    return BATCH


def _syn(version: int, target: Address) -> int:
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.connect_ex((str(target), 443))
    return 1

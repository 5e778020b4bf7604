"""The capture on this machine's own devices: what leaves, explained as it comes, and who has connected to us.

The kernel hands a frame to these taps after the layer under IP has admitted it, right before the device. Two kinds of frames pass
them by: those of a raw socket that bypasses the queueing discipline, and AF_XDP's (docs/reference/verify.md).
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from failshut.drill.judgement.judge import Connection, is_one_too_many
from failshut.drill.network.capture import (
    ETH_P_ALL,
    MOST_KEPT,
    PACKET_OUTGOING,
    PACKET_STATISTICS,
    RECEIVE_BUFFER,
    SO_RCVBUFFORCE,
    SOL_PACKET,
)
from failshut.host.senders.bpf import attach
from failshut.model.packet import TCP, UDP, Captured, Packet
from failshut.read.frame import decode
from failshut.verify.filter import program

Explain = Callable[[Packet, str], str | None]
# if_packet.h: PACKET_HOST, the only incoming frames that open a connection to us.
_PACKET_HOST = 0
_ARPHRD_ETHER = 1
_SYN, _ACK = 0x02, 0x10
# A frame that the device will cut to size is seen whole: 64 KiB and its headers.
_LARGEST = 1 << 17
# In seconds: under a flood there is always one more frame; what is not read by then is judged with the next test.
_DRAINED_WITHIN = 3.0
# The address that the control's ARP requests ask for: of a documentation range, so that no host has it.
CONTROL = IPv4Address("192.0.2.254")


@dataclass(slots=True)
class Seen:
    """What left during one test: counts of what was explained, the rest in full up to `MOST_KEPT`.

    `excess` are packets of an allowance that were too many; `control` counts our own control frames by device.
    """

    began: float = field(default_factory=time.monotonic)
    allowed: Counter[str] = field(default_factory=Counter)
    unexplained: list[Captured] = field(default_factory=list)
    excess: list[Captured] = field(default_factory=list)
    uncounted: int = 0
    control: Counter[str] = field(default_factory=Counter)


class Capture:
    """Taps devices until `stop`; `turn` begins a new test. One thread."""

    def __init__(self, devices: Sequence[str], explain: Explain, services: frozenset[tuple[int, int]]) -> None:
        """Tap `devices`. `services` are (protocol, port) pairs of the policy: connections to them are learnt.

        Raises PermissionError without CAP_NET_RAW, OSError for a device that is gone.
        """
        self._explain, self._services = explain, services
        self._began = time.monotonic()
        self._seen = Seen()
        self._first: dict[Connection, bool] = {}
        self._stop, self._ask, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._mld = 0
        self.devices = frozenset(devices)
        self._taps: dict[int, tuple[socket.socket, str]] = {}
        self._poll = select.poll()
        for device in devices:
            tap = _tap(device, [port for _, port in services])
            self._taps[tap.fileno()] = (tap, device)
            self._poll.register(tap.fileno(), select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> Self:
        """Begin; time 0 is now."""
        self._began = time.monotonic()
        self._thread.start()
        return self

    def turn(self) -> Seen:
        """Return what was seen since the last turn, what has left by now included, and begin anew."""
        self._idle.clear()
        self._ask.set()
        self._idle.wait(_DRAINED_WITHIN)
        # The thread looks the record up for each frame, so that a frame is in one of the two and never in both.
        done, self._seen = self._seen, Seen()
        return done

    def stop(self) -> Seen:
        """End the capture; return what was seen since the last turn. A second call returns nothing more."""
        if self._stop.is_set():
            return Seen()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for tap, _ in self._taps.values():
            tap.close()
        return self._seen

    def lost(self) -> int:
        """Return how many frames the kernel could not hand over since the last time this was asked."""
        # struct tpacket_stats: packets, drops; reading it resets both.
        return sum(struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1] for tap, _ in self._taps.values())

    def control_seen(self, device: str) -> bool:
        """Whether our control frame was seen on a device since the last turn."""
        return bool(self._seen.control[device])

    @property
    def transport_seen(self) -> bool:
        """Whether a tunnel's packet was seen since the last turn."""
        return bool(self._seen.allowed["transport"])

    @property
    def connections(self) -> frozenset[Connection]:
        """Connections to a service that were opened from outside: the first packet came in, and we sent no opening SYN."""
        return frozenset(each for each, came_in in list(self._first.items()) if came_in)

    def _run(self) -> None:
        while True:
            stopping, asked = self._stop.is_set(), self._ask.is_set()
            ready = self._poll.poll(0 if stopping or asked else 20)
            for number, _ in ready:
                self._read(*self._taps[number])
            if ready:
                continue
            # Only an empty poll *after* the question answers it: nothing that had left is unread.
            if asked:
                self._ask.clear()
                self._idle.set()
            if stopping:
                return

    def _read(self, tap: socket.socket, device: str) -> None:
        for _ in range(256):
            try:
                data, (_, protocol, direction, kind, _) = tap.recvfrom(_LARGEST)
            except OSError:
                return
            if direction not in (PACKET_OUTGOING, _PACKET_HOST):
                continue
            # A device without Ethernet headers hands over the bare packet.
            frame = data if kind == _ARPHRD_ETHER else bytes(12) + struct.pack(">H", protocol) + data
            packet = decode(frame)
            self._learn(packet, device, came_in=direction == _PACKET_HOST)
            if direction == PACKET_OUTGOING:
                self._take(packet, device)

    def _learn(self, packet: Packet, device: str, *, came_in: bool) -> None:
        source, target, protocol = packet.source, packet.target, packet.protocol
        ports = (packet.source_port, packet.target_port)
        if source is None or target is None or protocol not in (TCP, UDP) or ports[0] is None or ports[1] is None:
            return
        local = ports[1] if came_in else ports[0]
        if (protocol, local) not in self._services:
            return
        if came_in:
            self._first.setdefault(Connection(protocol, target, ports[1], source, ports[0], device), True)
            return
        this = Connection(protocol, source, ports[0], target, ports[1], device)
        if protocol == UDP:
            self._first.setdefault(this, False)
        elif (packet.tcp_flags or 0) & (_SYN | _ACK) == _SYN:
            # We opened it: whatever comes back makes it no connection from outside.
            self._first[this] = False

    def _take(self, packet: Packet, device: str) -> None:
        seen = self._seen
        if packet.arp is not None and packet.arp.target == CONTROL:
            seen.control[device] += 1
        name = self._explain(packet, device)
        at = time.monotonic() - self._began
        frame = Captured(at, device, packet)
        if name == "mld":
            if is_one_too_many(self._mld, at):
                seen.excess.append(frame)
                return
            self._mld += 1
        if name is not None:
            seen.allowed[name] += 1
        elif len(seen.unexplained) < MOST_KEPT:
            seen.unexplained.append(frame)
        else:
            seen.uncounted += 1


def _tap(device: str, ports: Sequence[int]) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        # Whatever does not fit is counted as lost, and the run is void.
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    attach(tap, program(ports))
    tap.setblocking(False)
    tap.bind((device, ETH_P_ALL))
    return tap

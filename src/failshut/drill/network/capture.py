"""The capture on the router's side of the client's cables: frames from the client only, with the kernel's own drop counter."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from failshut.drill.network.netns import Namespace
from failshut.drill.timeline import BIN_SECONDS
from failshut.model.packet import Captured
from failshut.read.frame import decode

ETH_P_ALL = 0x0003
# linux/if_packet.h, asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING, PACKET_OUTGOING = 263, 6, 23, 4
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 64 << 20
# A control under flood would fill the memory; what is seen beyond this is counted only.
MOST_KEPT = 20_000


class Capture:
    """Captures until `stop`. One thread; every frame is kept up to `most_kept`, the rest counted."""

    def __init__(self, router: Namespace, ends: Sequence[tuple[str, str]], *, most_kept: int = MOST_KEPT) -> None:
        """Tap `ends`, which are (router's end, client's device) pairs."""
        self._frames: list[tuple[float, str, bytes]] = []
        self._most_kept = most_kept
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._sockets: dict[int, tuple[socket.socket, str]] = {}
        self.uncounted = 0
        self.dropped = 0
        # By bin: the frames beyond `most_kept`, and what was handed to the kernel meanwhile.
        self.beyond: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self._count_sent: Callable[[], int] = int
        self._sent_before = 0
        self._bin = 0
        # In seconds, once it has ended.
        self.length = 0.0
        self._poll = select.poll()
        for end, device in ends:
            self.add(router, end, device)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def add(self, router: Namespace, end: str, device: str) -> None:
        """Tap one more cable; the thread takes it in on its next round."""
        with router.inside():
            tap = _tap(end)
        self._sockets[tap.fileno()] = (tap, device)
        self._poll.register(tap.fileno(), select.POLLIN)

    def start(self, count_sent: Callable[[], int] = int) -> Self:
        """Begin; time 0 is now, and what waited in the sockets from before is thrown away.

        `count_sent` is asked as each bin ends: how much was sent so far.
        """
        for tap, _ in self._sockets.values():
            _drain(tap)
            tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self._count_sent, self._sent_before = count_sent, count_sent()
        self._began = time.monotonic()
        self._thread.start()
        return self

    def stop(self) -> tuple[Captured, ...]:
        """End the capture and return what was seen, in order."""
        self._stop.set()
        self._thread.join()
        self.length = self.elapsed
        self._settle()
        for tap, _ in self._sockets.values():
            # struct tpacket_stats: packets, drops; reading it resets both.
            _, drops = struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self.dropped += drops
            tap.close()
        return tuple(Captured(at, device, decode(frame)) for at, device, frame in self._frames)

    @property
    def seen(self) -> int:
        """How many frames were seen so far."""
        return len(self._frames) + self.uncounted

    def saw(self, content: bytes) -> bool:
        """Whether any frame so far contains these bytes."""
        return any(content in frame for _, _, frame in list(self._frames))

    def holding(self, content: bytes) -> tuple[Captured, ...]:
        """Return the frames so far that contain these bytes."""
        return tuple(Captured(at, device, decode(frame)) for at, device, frame in list(self._frames) if content in frame)

    @property
    def elapsed(self) -> float:
        """Seconds since the capture began."""
        return time.monotonic() - self._began

    def _settle(self) -> None:
        """Book what was sent since the last time under the bin that ends."""
        total = self._count_sent()
        self.sent[self._bin] += total - self._sent_before
        self._sent_before = total

    def _run(self) -> None:
        while True:
            now = int(self.elapsed / BIN_SECONDS)
            if now != self._bin:
                self._settle()
                self._bin = now
            stopping = self._stop.is_set()
            ready = self._poll.poll(0 if stopping else 20)
            for number, _ in ready:
                self._read(*self._sockets[number])
            # Only an empty poll *after* the stop was asked for ends it: nothing that had arrived is left unread.
            if stopping and not ready:
                return

    def _read(self, tap: socket.socket, device: str) -> None:
        for _ in range(256):
            try:
                frame, address = tap.recvfrom(65535)
            except OSError:
                return
            if address[2] == PACKET_OUTGOING:
                continue
            if len(self._frames) < self._most_kept:
                self._frames.append((time.monotonic() - self._began, device, frame))
            else:
                self.uncounted += 1
                self.beyond[int(self.elapsed / BIN_SECONDS)] += 1


def _tap(interface: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        # In a user namespace the machine's limit holds; whatever does not fit is counted as lost, and the run is void.
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    tap.setblocking(False)
    tap.bind((interface, ETH_P_ALL))
    return tap


def _drain(tap: socket.socket) -> None:
    try:
        while tap.recv(1):
            pass
    except OSError:
        return

"""The client's own programs: uploads, datagrams and lookups that run before, during and after an attack, from one thread."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import pace
from failshut.emit.dns import A, question
from failshut.model.units import Address

# The spacing of each flow's packets: as in research/kernel.md §1.
PACE_SECONDS = 0.02
UPLOAD_PORT, ECHO_PORT, SINK_PORT, DNS_PORT = 7000, 7001, 7002, 53


@dataclass(slots=True)
class Flow:
    """One program's socket. `make` opens it, `say` sends once; a socket that breaks is opened again, as programs do."""

    name: str
    make: Callable[[], socket.socket]
    say: Callable[[socket.socket], int]
    reopen: bool = True
    sent: int = 0
    refused: int = 0
    _socket: socket.socket | None = field(default=None, repr=False)

    def step(self) -> None:
        """Send one packet's worth; a refusal is what a lock is for, so it is only counted."""
        try:
            if self._socket is None:
                self._socket = self.make()
            self.say(self._socket)
            self.sent += 1
        except BlockingIOError:
            return
        except OSError:
            self.refused += 1
            if self.reopen and self._socket is not None and self._socket.type == socket.SOCK_STREAM:
                self.close()

    def open(self) -> Self:
        """Open the socket now."""
        self._socket = self.make()
        return self

    def close(self) -> None:
        """Close the socket; the next step opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Traffic:
    """The client's running programs."""

    def __init__(self, client: Namespace) -> None:
        self.client = client
        self.flows: list[Flow] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def add(self, flows: Sequence[Flow]) -> None:
        """Let more programs run; they begin at once when the traffic is running."""
        self.flows = [*self.flows, *flows]

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End, and close every socket."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for flow in self.flows:
            flow.close()

    @property
    def sent(self) -> int:
        """How many packets the programs handed to the kernel, and how many it refused on the spot."""
        return sum(each.sent + each.refused for each in self.flows)

    def _run(self) -> None:
        with self.client.inside():
            while not self._stop.is_set():
                for flow in self.flows:
                    flow.step()
                pace(PACE_SECONDS)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _quiet(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


def tcp_upload(target: Address, port: int = UPLOAD_PORT) -> Flow:
    """Return a TCP upload that never ends."""

    def make() -> socket.socket:
        sock = _quiet(socket.socket(_family(target), socket.SOCK_STREAM))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            sock.connect((str(target), port))
        return sock

    return Flow(f"tcp{target.version}", make, lambda sock: sock.send(b"upload " * 60))


def udp_connected(target: Address, port: int = ECHO_PORT, *, name: str = "udp") -> Flow:
    """Return a connected UDP stream."""

    def make() -> socket.socket:
        sock = _quiet(socket.socket(_family(target), socket.SOCK_DGRAM))
        sock.connect((str(target), port))
        return sock

    return Flow(f"{name}{target.version}", make, lambda sock: sock.send(b"datagram"))


def udp_bound(source: Address, target: Address) -> Flow:
    """Return a UDP stream bound to one of the client's addresses."""

    def make() -> socket.socket:
        sock = _quiet(socket.socket(_family(target), socket.SOCK_DGRAM))
        sock.bind((str(source), 0))
        return sock

    return Flow(f"bound{target.version}", make, lambda sock: sock.sendto(b"bound", (str(target), ECHO_PORT)))


def udp_unbound(target: Address, port: int = SINK_PORT) -> Flow:
    """Return a UDP stream whose socket is neither bound nor connected, and that nobody ever answers."""
    return Flow(
        f"unbound{target.version}",
        lambda: _quiet(socket.socket(_family(target), socket.SOCK_DGRAM)),
        lambda sock: sock.sendto(b"unbound", (str(target), port)),
    )


def dns_query(name: str = "example.com") -> bytes:
    """Return a DNS query for a name's A record.

    Its number begins with no opcode of OpenVPN's: one random query in five would pass for a tunnel's message.
    """
    return question(int.from_bytes(b"\x01" + os.urandom(1)), name, A)


def dns_lookups(resolver: Address) -> Flow:
    """Return a program that looks up a name again and again, each time from a new socket, as resolvers do."""

    def say(_: socket.socket) -> int:
        with socket.socket(_family(resolver), socket.SOCK_DGRAM) as sock:
            _quiet(sock)
            return sock.sendto(dns_query(), (str(resolver), DNS_PORT))

    return Flow(f"dns{resolver.version}", lambda: socket.socket(_family(resolver), socket.SOCK_DGRAM), say)

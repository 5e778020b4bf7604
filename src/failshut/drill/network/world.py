"""Everybody the client may talk to: sinks, echoes and resolvers in the lab's namespaces, served by one thread."""

from __future__ import annotations

import fcntl
import selectors
import socket
import struct
import termios
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address

from failshut.drill.network.netns import Namespace
from failshut.model.units import Address

IP_PKTINFO = 8  # linux/in.h; Python 3.11 lacks the name


class World:
    """Listeners by name; `received` says how much came from whom."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._received: Counter[tuple[str, Address]] = Counter()
        self._streams: dict[tuple[str, Address, int], socket.socket] = {}
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; every socket is closed."""
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def received(self, service: str, source: Address | None = None, version: int = 0) -> int:
        """Return how many messages `service` got: from one address, or from one family, or in all."""
        return sum(
            count
            for (name, peer), count in list(self._received.items())
            if name == service and source in (None, peer) and version in (0, peer.version)
        )

    def speak_first(self, service: str, peer: Address, port: int, message: bytes) -> bool:
        """Have `service` send on the connection that it accepted from `peer`; whether its socket took it."""
        try:
            return self._streams[service, peer, port].send(message) == len(message)
        except (KeyError, OSError):
            return False

    @property
    def is_acknowledged(self) -> bool:
        """Whether every byte that was sent on an accepted connection was acknowledged: nothing is under way on any of them."""
        return not any(_unacknowledged(each) for each in self._streams.values() if each.fileno() >= 0)

    def udp(
        self, host: Namespace, port: int, service: str, answer: Callable[[bytes], bytes | None], *, at: Sequence[str] = ("", "")
    ) -> None:
        """Serve UDP on every address of `host`, or on those given, by family; an answer leaves by the address that was asked."""
        for family, address in zip((socket.AF_INET, socket.AF_INET6), at, strict=True):
            with host.inside():
                sock = socket.socket(family, socket.SOCK_DGRAM)
                _prepare(sock)
                sock.bind((address, port))
            self._watch(sock, partial(self._datagram, sock, service, answer))

    def tcp(self, host: Namespace, port: int, service: str, *, echo: bool = False) -> None:
        """Serve TCP on every address of `host`: an echo, or a sink."""
        for family in (socket.AF_INET, socket.AF_INET6):
            with host.inside():
                sock = socket.socket(family, socket.SOCK_STREAM)
            _prepare(sock)
            sock.bind(("", port))
            sock.listen(64)
            self._watch(sock, partial(self._accept, sock, service, echo=echo))

    def _watch(self, sock: socket.socket, action: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, action)

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                try:
                    key.data()
                except OSError:
                    # A peer that was cut off by an attack: its connection ends, the others go on.
                    self._forget(key.fileobj)

    def _forget(self, sock: object) -> None:
        if isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM:
            self._selector.unregister(sock)
            sock.close()

    def _accept(self, listener: socket.socket, service: str, *, echo: bool) -> None:
        connection, peer = listener.accept()
        self._streams[service, ip_address(peer[0]), peer[1]] = connection
        self._watch(connection, lambda: self._stream(connection, ip_address(peer[0]), service, echo=echo))

    def _stream(self, connection: socket.socket, peer: Address, service: str, *, echo: bool) -> None:
        data = connection.recv(65536)
        if not data:
            self._forget(connection)
            return
        self._received[service, peer] += 1
        if echo:
            connection.send(data)

    def _datagram(self, sock: socket.socket, service: str, answer: Callable[[bytes], bytes | None]) -> None:
        data, extra, _, peer = sock.recvmsg(65536, 256)
        self._received[service, ip_address(peer[0].split("%")[0])] += 1
        reply = answer(data)
        if reply is not None:
            sock.sendmsg([reply], [_from_asked(level, kind, value) for level, kind, value in extra], 0, peer)


def _unacknowledged(sock: socket.socket) -> int:
    return int(struct.unpack("=i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sock.type == socket.SOCK_DGRAM:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif sock.type == socket.SOCK_DGRAM:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _from_asked(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    """Turn the packet information of a question into that of its answer: same address, any interface."""
    if level == socket.IPPROTO_IP:
        return level, kind, struct.pack("=i", 0) + value[8:12] + bytes(4)
    return level, kind, value[:16] + struct.pack("=i", 0)


def dns_answer(query: bytes) -> bytes | None:
    """Return an empty answer to a DNS query: the same message with the response bit set."""
    return query[:2] + bytes((query[2] | 0x80,)) + query[3:] if len(query) >= 12 else None


def echo(data: bytes) -> bytes:
    """Answer with the question."""
    return data


def silence(_: bytes) -> None:
    """Never answer."""

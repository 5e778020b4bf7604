"""Who asked the kernel for a way to which place: its own tracepoints, which fire in the program that calls.

A program may be gone before anybody can ask whose a socket is, and a refused connection is. What a packet is routed by has the
packet's own port, whatever becomes of it. Source: include/trace/events/{fib,fib6,sock}.h.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from failshut.host.senders.tracing import Instance, sweep
from failshut.model.packet import TCP, Packet

_NAME = "failshut-watch-"
_LOOKUP4, _LOOKUP6, _STATE = "fib/fib_table_lookup", "fib6/fib6_table_lookup", "sock/inet_sock_set_state"
# 1 is the loopback's number, for what is sent from here. include/net/tcp_states.h: into SYN_SENT (2) a program puts its connection,
# out of SYN_SENT it falls with its port.
_FILTERS = {
    _LOOKUP4: "err == 0 && iif == 1",
    _LOOKUP6: "err == 0 && iif == 1",
    _STATE: "protocol == 6 && (oldstate == 2 || newstate == 2)",
}
# The fields that say where to, by the version of IP.
_TARGETS = {4: {_LOOKUP4: "dst", _STATE: "daddr"}, 6: {_LOOKUP6: "dst", _STATE: "daddr_v6"}}
_PROTOCOLS = {_LOOKUP4: "proto", _LOOKUP6: "proto", _STATE: "protocol"}
# include/linux/trace_events.h: an interrupt came while the program ran.
_INTERRUPTED = 0x08 | 0x10
# A packet is refused within microseconds of its call, and heard of within seconds; what is older belongs to another packet.
_RECENT = 5.0
# In bytes: other programs' calls are kept too, and nobody knows how many there are.
_MOST = 4 << 20
# So many pages before the one with the latest call are looked through for another's.
_BESIDE = 8
# How often, and how long in seconds, to wait for the port of a connect() while several programs ask for one place.
_TRIES, _WAIT = 5, 0.002


@dataclass(frozen=True, slots=True)
class Call:
    """One thread's call, by the thread's number; `port` is its own, 0 for none yet."""

    thread: int
    port: int
    at: float


class Calls:
    """The latest calls of every program. Without a trace file system it knows of none."""

    def __init__(self, aside: Iterable[str] = ()) -> None:
        """Begin to trace; what a killed watch left behind goes. What leaves by the devices `aside` is not asked for."""
        self._pages: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._instance: Instance | None = None
        sweep(_NAME)
        with contextlib.suppress(OSError):
            away = "".join(f' && name != "{each}"' for each in ("lo", *aside))
            filters = {name: text + away if name != _STATE else text for name, text in _FILTERS.items()}
            self._instance = Instance(f"{_NAME}{os.getpid()}", filters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Trace no more."""
        if self._instance:
            self._instance.close()
            self._instance = None

    def behind(self, packet: Packet) -> list[Call]:
        """Return the calls that a refused packet may come from, one for each thread: of several, nobody knows which."""
        found: list[Call] = []
        for _ in range(_TRIES if packet.protocol == TCP else 1):
            self._read()
            # UDP's calls have the packet's own port, all of them.
            found = list(self._bound_for(packet, packet.source_port or 0))
            if packet.protocol == TCP and not found:
                found = list(self._bound_for(packet, 0))
            if len({each.thread for each in found}) < 2 or found[0].port:
                break
            # A refused connection's port is said a moment later.
            time.sleep(_WAIT)
        return list({each.thread: each for each in found}.values())

    def _bound_for(self, packet: Packet, port: int) -> Iterator[Call]:
        """Yield the calls for a packet's place from a port, 0 for none, the latest first and those that came with it."""
        if self._instance is None or packet.target is None:
            return
        kinds = [
            (event, event.fields[field], event.fields[_PROTOCOLS[name]])
            for name, field in _TARGETS[packet.target.version].items()
            if (event := self._instance.events.get(name))
        ]
        # Of all that is in a record the two ports, which stand together, are the rarest.
        wanted, ports = packet.target.packed, struct.pack("=HH", port, packet.target_port or 0)
        since, left = time.monotonic() - _RECENT, len(self._pages)
        for _, page in reversed(self._pages):
            left -= 1
            if left < 0:
                return
            if ports not in page or wanted not in page:
                continue
            for at, record in self._instance.records(page):
                for event, target, protocol in kinds:
                    if (
                        at >= since
                        and _kind(record) == event.number
                        and target.of(record) == wanted
                        and protocol.number(record) == packet.protocol
                        and event.fields["dport"].number(record) == (packet.target_port or 0)
                        and event.fields["sport"].number(record) == port
                        and not event.fields["common_flags"].number(record) & _INTERRUPTED
                    ):
                        left = min(left, _BESIDE)
                        yield Call(event.fields["common_pid"].number(record), port, at)

    def _read(self) -> None:
        if self._instance is None:
            return
        now = time.monotonic()
        for page in self._instance.read():
            self._pages.append((now, page))
            self._size += len(page)
        while self._pages and (self._size > _MOST or self._pages[0][0] < now - _RECENT):
            self._size -= len(self._pages.popleft()[1])


def _kind(record: bytes) -> int:
    return int.from_bytes(record[:2], sys.byteorder)

"""Who calls connect(), and whose send() was refused: the kernel's own tracepoints, in a trace instance of ours.

A connection that is refused is gone before anybody can ask whose it was, and a program may be too; a tracepoint fires in the
program that calls. Source: Documentation/trace/ftrace.rst (instances), include/trace/events/sock.h.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from failshut.model.packet import Packet

_INSTANCES = Path("/sys/kernel/tracing/instances")
_NAME = "failshut-watch-"
# include/net/tcp_states.h: into SYN_SENT (2) a program puts its connection, out of SYN_SENT it falls with its port. Of send(),
# those that ended with EPERM; only since Linux 6.4.
_FILTERS = {
    "inet_sock_set_state": "protocol == 6 && (oldstate == 2 || newstate == 2)",
    "sock_send_length": "ret == -1",
}
_LINE = re.compile(r"^\s*(?P<name>.*)-(?P<thread>\d+)\s+\[\d+\].*? (?P<event>inet_sock_set_state|sock_send_length): (?P<rest>.*)")
_STATE = re.compile(
    r"family=AF_INET(?P<six>6?) .*sport=(?P<sport>\d+) dport=(?P<dport>\d+) .*daddr=(?P<four>\S+) .*daddrv6=(?P<daddr6>\S+) "
)
_CHUNK = 1 << 16
# A SYN is refused within microseconds of its connect(); what is older belongs to another packet.
_RECENT = 2.0
_MOST = 4096
# How often, and how long in seconds, to wait for the port of a connect() while several programs ask for one place.
_TRIES, _WAIT = 5, 0.002


@dataclass(frozen=True, slots=True)
class Connect:
    """One connect(): the thread that called it, by its number and its name; `port` is its own, 0 while it has none."""

    thread: int
    name: str
    port: int
    target: str
    target_port: int
    at: float


class Calls:
    """The latest calls of every program. Without a trace file system it knows of none."""

    def __init__(self) -> None:
        """Make the instance; one that a killed watch left behind goes."""
        self._connects: deque[Connect] = deque(maxlen=_MOST)
        # By thread, the latest last: when its send() was refused.
        self._refused: OrderedDict[int, float] = OrderedDict()
        self._pipe: int | None = None
        self._rest = ""
        self._instance = _INSTANCES / f"{_NAME}{os.getpid()}"
        try:
            _sweep()
            self._instance.mkdir()
            for event, wanted in _FILTERS.items():
                with contextlib.suppress(FileNotFoundError):
                    (self._instance / "events/sock" / event / "filter").write_text(wanted, encoding="ascii")
                    (self._instance / "events/sock" / event / "enable").write_text("1", encoding="ascii")
            self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the instance out of the kernel."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        with contextlib.suppress(OSError):
            self._instance.rmdir()

    def refused(self) -> list[int]:
        """Return the threads whose send() was refused a moment ago, the latest first."""
        self._read()
        since = time.monotonic() - _RECENT
        return [thread for thread, at in reversed(self._refused.items()) if at >= since]

    def behind(self, packet: Packet) -> Connect | None:
        """Return the call that a refused SYN comes from; None when it was not seen, or is not certain."""
        for _ in range(_TRIES):
            self._read()
            there = self._bound_for(packet)
            # With its own port it is certain; without, when only one program asked for that place.
            by_port = {each.thread: each for each in there if each.port == packet.source_port}
            found = list((by_port or {each.thread: each for each in there}).values())
            if len(found) < 2 or self._pipe is None:
                return found[0] if found else None
            select.select([self._pipe], [], [], _WAIT)
        return None

    def _bound_for(self, packet: Packet) -> list[Connect]:
        since, target = time.monotonic() - _RECENT, str(packet.target)
        return [
            each for each in self._connects if each.at >= since and (each.target, each.target_port) == (target, packet.target_port)
        ]

    def _read(self) -> None:
        if self._pipe is None:
            return
        with contextlib.suppress(OSError):
            while chunk := os.read(self._pipe, _CHUNK):
                *lines, self._rest = (self._rest + chunk.decode("utf-8", errors="replace")).split("\n")
                for line in lines:
                    self._take(line)

    def _take(self, line: str) -> None:
        said = _LINE.match(line)
        if said is None:
            return
        thread = int(said["thread"])
        if said["event"] == "sock_send_length":
            self._refused.pop(thread, None)
            self._refused[thread] = time.monotonic()
            if len(self._refused) > _MOST:
                self._refused.popitem(last=False)
        elif state := _STATE.match(said["rest"]):
            target = state["daddr6"] if state["six"] else state["four"]
            call = Connect(thread, said["name"], int(state["sport"]), target, int(state["dport"]), time.monotonic())
            self._connects.append(call)


def _sweep() -> None:
    for each in _INSTANCES.glob(f"{_NAME}*"):
        if not Path(f"/proc/{each.name.removeprefix(_NAME)}").exists():
            each.rmdir()

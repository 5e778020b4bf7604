"""Whose a packet is: by the call that sent it, else by its socket, from port to inode to the process that has it open.

Source: linux/inet_diag.h, proc(5).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from failshut.host.network.netlink import NETLINK_SOCK_DIAG, NLM_F_DUMP, NetlinkError, ask, open_netlink
from failshut.host.senders.calls import Calls
from failshut.host.senders.nflog import Logged
from failshut.host.senders.tracing import remembered_name
from failshut.model.packet import ICMP, ICMPV6, TCP, UDP, UDPLITE, Packet
from failshut.read.visible import plain

_BY_FAMILY = 20
_NO_COOKIE = b"\xff" * 8
_EVERY_STATE = 0xFFFFFFFF
_REQUEST = struct.Struct("=BBBBI")
# inet_diag_msg: four bytes, the socket's id of 48, five numbers of which the last are uid and inode.
_UID_AND_INODE = struct.Struct("=II")
_AT_UID = 4 + 48 + 12
_PORTED = (TCP, UDP, UDPLITE)
# Sockets whose process was found are remembered: a flood is of few of them.
_REMEMBERED = 1024
# What was found is asked for again after so many seconds.
_AGAIN = 1.0
_PROC = Path("/proc")
# What stands for the name of a process that was gone before it could be read.
_GONE = "?"


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Flow = tuple[int | None, str, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when its packet was refused. `group` is its control group, a path from the hierarchy's root."""

    pid: int
    name: str
    group: str


class Owners:
    """Finds the processes behind packets; one for each watch, for what it remembers."""

    def __init__(self, aside: Iterable[str] = ()) -> None:
        """Open the diagnostics; a kernel without them names only what was seen to call. Nothing is refused on devices `aside`."""
        self._channel: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._channel = open_netlink(NETLINK_SOCK_DIAG)
        self._calls = Calls(aside)
        self._known: OrderedDict[int, Process] = OrderedDict()
        # By protocol, address and port that a packet came from, and by thread: whose it was, and when that was found.
        self._flows: OrderedDict[_Flow, tuple[Process, float]] = OrderedDict()
        self._threads: OrderedDict[int, tuple[Process, float]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel:
            self._channel.close()
        self._calls.close()

    def of(self, logged: Sequence[Logged]) -> list[Process | None]:
        """Return, for each refused packet, the process that sent it.

        None for the kernel's own packets, and for a process that is gone or out of sight. Many are asked for at once: looking
        through every process takes as long for one.
        """
        callers = [self._of_flow(each) or self._caller(each) for each in logged]
        open_ = [each.uid is not None and caller is None for each, caller in zip(logged, callers, strict=True)]
        inodes = [list(self._inodes(each.packet)) if is_open else [] for each, is_open in zip(logged, open_, strict=True)]
        wanted = {inode: each.uid or 0 for each, own in zip(logged, inodes, strict=True) for inode in own}
        self._learn({inode: uid for inode, uid in wanted.items() if inode not in self._known})
        found = [caller or self._owner(own) for caller, own in zip(callers, inodes, strict=True)]
        for each, process in zip(logged, found, strict=True):
            if process and each.packet.source_port is not None and _flow(each) not in self._flows:
                _keep(self._flows, _flow(each), (process, time.monotonic()))
        return found

    def _of_flow(self, logged: Logged) -> Process | None:
        """Return who sent from there a moment ago and is still alive: a flood is of few flows."""
        process, at = self._flows.get(_flow(logged), (None, 0.0))
        if process and time.monotonic() - at < _AGAIN and _user(process.pid) is not None:
            return process
        self._flows.pop(_flow(logged), None)
        return None

    def _caller(self, logged: Logged) -> Process | None:
        """Return the process whose call it was, when only one process can have made it."""
        if logged.uid is None:
            return None
        found: dict[int, Process] = {}
        for call in self._calls.behind(logged.packet):
            if process := self._of_thread(call.thread):
                found[process.pid] = process
        return found.popitem()[1] if len(found) == 1 else None

    def _of_thread(self, thread: int) -> Process | None:
        """Return a thread's process, as far as it can be known; None for one in another network."""
        process, at = self._threads.get(thread, (None, 0.0))
        if process and time.monotonic() - at < _AGAIN:
            return process
        if _is_elsewhere(thread):
            return None
        process = _described(thread) or Process(thread, plain(remembered_name(thread)) or _GONE, "")
        _keep(self._threads, thread, (process, time.monotonic()))
        return process

    def _owner(self, inodes: list[int]) -> Process | None:
        for inode in inodes:
            if inode in self._known:
                self._known.move_to_end(inode)
                return self._known[inode]
        return None

    def _learn(self, wanted: dict[int, int]) -> None:
        """Find who has these sockets open; an inode's number is not given again while anybody remembers it."""
        # Without a question nobody need be looked through.
        for inode, pid in _holders(wanted) if wanted else ():
            if process := _described(pid):
                _keep(self._known, inode, process)

    def _inodes(self, packet: Packet) -> Iterator[int]:
        """Yield the inodes of the sockets that may have sent a packet, the likeliest first."""
        if packet.protocol in _PORTED and packet.source_port is not None:
            yield from self._of_port(packet, packet.protocol, packet.source_port)
        elif packet.protocol in (ICMP, ICMPV6):
            yield from _listed(("icmp", "icmp6", "raw", "raw6"))
        else:
            yield from _listed(("raw", "raw6"))

    def _of_port(self, packet: Packet, protocol: int, port: int) -> Iterator[int]:
        version = packet.source.version if packet.source else 4
        # An IPv6 socket sends IPv4 too, to mapped addresses.
        for family in (socket.AF_INET, socket.AF_INET6) if version == 4 else (socket.AF_INET6,):
            # By its whole name: a dump would look through every bucket of every connection.
            with contextlib.suppress(NetlinkError):
                yield from self._ask(family, protocol, _ends(packet, family), 0)
        # Bound to another address than it sent from, or to a device.
        for family in (socket.AF_INET, socket.AF_INET6) if protocol != TCP else ():
            yield from self._ask(family, protocol, struct.pack("!HH", port, 0) + bytes(36) + _NO_COOKIE, NLM_F_DUMP)

    def _ask(self, family: int, protocol: int, ends: bytes, flags: int) -> Iterator[int]:
        if self._channel is None:
            return
        request = _REQUEST.pack(family, protocol, 0, 0, _EVERY_STATE) + ends
        for answer in list(ask(self._channel, _BY_FAMILY, flags, request)):
            if len(answer) >= _AT_UID + _UID_AND_INODE.size:
                _, inode = _UID_AND_INODE.unpack_from(answer, _AT_UID)
                if inode:
                    yield inode


def _flow(logged: Logged) -> _Flow:
    packet = logged.packet
    return packet.protocol, str(packet.source), packet.source_port, logged.uid


def _keep(known: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Put an entry last; the oldest go."""
    known.pop(key, None)
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


def _ends(packet: Packet, family: int) -> bytes:
    ends = [(packet.source, packet.source_port or 0), (packet.target, packet.target_port or 0)]
    if packet.protocol != TCP:
        # UDP's are asked for as an arriving packet would: the other end first.
        ends.reverse()
    ports = struct.pack("!HH", *(port for _, port in ends))
    addresses = b""
    for each, _ in ends:
        packed = each.packed if each else b""
        mapped = bytes(10) + b"\xff\xff" + packed if family == socket.AF_INET6 and len(packed) == 4 else packed
        addresses += mapped.ljust(16, b"\0")
    return ports + addresses + bytes(4) + _NO_COOKIE


def _listed(tables: tuple[str, ...]) -> Iterator[int]:
    """Yield the inodes of sockets that have no port, as /proc/net lists them (the tenth column), the newest first."""
    found = []
    for name in tables:
        with contextlib.suppress(OSError):
            lines = (_PROC / "net" / name).read_text(encoding="ascii", errors="replace").splitlines()[1:]
            found += [int(words[9]) for words in map(str.split, lines) if len(words) > 9 and words[9].isdigit()]
    yield from sorted(set(found) - {0}, reverse=True)


def _holders(wanted: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Yield which process has which of the sockets open, given each socket's user.

    The users' own processes come first, and of those the newest: what sends for the first time has mostly just started.
    """
    missing = {f"socket:[{inode}]": inode for inode in wanted}
    for pid in _in_turn(set(wanted.values())):
        if not missing:
            return
        for link in _links(pid):
            if (inode := missing.pop(link, None)) is not None:
                yield inode, pid


def _in_turn(users: set[int]) -> Iterator[int]:
    every = sorted((int(each) for each in os.listdir(_PROC) if each.isdigit()), reverse=True)  # noqa: PTH208 - half the time
    yield from sorted(every, key=lambda pid: _user(pid) not in users)


def _user(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - half the time
    return None


def _links(pid: int) -> Iterator[str]:
    """Yield what a process' descriptors point at; nothing of one that is gone, or that we may not look into."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for each in os.listdir(directory):  # noqa: PTH208 - half the time
            with contextlib.suppress(OSError):
                yield os.readlink(f"{directory}/{each}")  # noqa: PTH115 - half the time


def _is_elsewhere(thread: int) -> bool:
    """Whether a thread runs in another network than ours; of one that is gone nobody knows."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{thread}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - half the time
    return False


def _described(pid: int) -> Process | None:
    try:
        # A thread's number leads to its process.
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        process = int(next(line.split()[1] for line in status.splitlines() if line.startswith("Tgid:")))
        name = Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except (OSError, StopIteration, ValueError):
        return None
    group = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), "")
    return Process(process, plain(name), plain(group))

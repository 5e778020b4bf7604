"""The kernel's own messages: devices that come, go or change, and transactions on the packet filter's rules.

Doorbells: two sockets, four kinds of message (rtnetlink(7), linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from failshut.host.network.netlink import (
    NETLINK_NETFILTER,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attributes,
    ends,
    message,
    messages,
    open_netlink,
)

_ROUTE, _SOL_NETLINK, _ADD_MEMBERSHIP = 0, 270, 1
_GROUP_LINK, _GROUP_NFTABLES = 1, 7
_LINK = struct.Struct("=BxHiII")
_NEW_LINK, _DEL_LINK, _GET_LINK = 16, 17, 18
_IFNAME, _MASTER, _LINKINFO, _INFO_KIND, _INFO_SLAVE_KIND = 3, 10, 18, 1, 4
_UP, _LOOPBACK = 0x1, 0x8
# ARPHRD_ETHER and ARPHRD_NONE (linux/if_arp.h), as ip calls them.
_HARDWARE = {1: "ether", 0xFFFE: "none"}
_SUBSYSTEM, _NEW_GENERATION = 10, 15
_NFGEN = 4
_GEN_PID, _GEN_NAME = 2, 3
_ATTRIBUTE = struct.Struct("=HH")
# NFTA_RULE_CHAIN, NFTA_SET_NAME and the others' like; NFTA_CHAIN_NAME.
_NAMES = (2, 3)
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_OBJECTS = ("table", "chain", "rule", "set", "element")
# NEW, GET and DEL of each object, in this order; after the generation's own number come stateful objects and flowtables.
_VERBS = {number * 3 + at: (verb, name) for number, name in enumerate(_OBJECTS) for at, verb in ((0, "new"), (2, "delete"))}
_VERBS |= {18: ("new", "object"), 20: ("delete", "object"), 22: ("new", "flowtable"), 24: ("delete", "flowtable")}
_BUFFER = 1 << 20
# Room for the messages of a transaction with a hundred thousand elements.
_MOST_WAITING = 8 << 20
_SO_RCVBUFFORCE = 33

Link = dict[str, Any]


class LostError(Exception):
    """The kernel had more to say than the socket could hold: what is known is old, and must be asked for anew."""


@dataclass(frozen=True, slots=True)
class Change:
    """Objects of a transaction: `new` or `delete`, of which kind, in which table, and their name; a rule has its chain's."""

    verb: str
    what: str
    family: str
    table: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one commit changed, and by whom: `pid` as the first PID namespace numbers it, `name` as the process calls itself."""

    # How many of each, in the order of the first.
    changes: Mapping[Change, int] = field(default_factory=dict)
    pid: int = 0
    name: str = ""


def open_links() -> socket.socket:
    """Return a socket that hears of every device; a dump of those that are there has been asked for on it."""
    sock = _open(_ROUTE)
    sock.bind((0, _GROUP_LINK))
    # Each with what kind of device it is; rtnetlink(7) wants an ifinfomsg even for a dump.
    sock.send(message(_GET_LINK, NLM_F_REQUEST | NLM_F_DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
    return sock


def open_rules() -> socket.socket:
    """Return a socket that hears of every transaction on the packet filter. Raises PermissionError without CAP_NET_ADMIN."""
    sock = _open(NETLINK_NETFILTER)
    sock.bind((0, 0))
    sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
    return sock


def _open(protocol: int) -> socket.socket:
    sock = open_netlink(protocol)
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _MOST_WAITING)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MOST_WAITING)
    return sock


@dataclass(slots=True)
class Links:
    """The devices as the kernel tells of them, by index. `receive` takes in what waits."""

    by_index: dict[int, Link] = field(default_factory=dict)
    # Whether the dump that `open_links` asked for is through.
    complete: bool = False

    def receive(self, sock: socket.socket) -> bool:
        """Take in what waits on the socket; return whether anything changed. Raises `LostError`."""
        changed = False
        for datagram in _datagrams(sock):
            for kind, body in messages(datagram):
                if kind in (_NEW_LINK, _DEL_LINK):
                    changed |= self._take(kind, body)
            if ends(datagram):
                self.complete = changed = True
        return changed

    def listed(self) -> list[Link]:
        """Return the devices as `ip -j -d link` would: those fields that `host.links` looks at, and whether each is up."""
        names = {index: each["ifname"] for index, each in self.by_index.items()}
        return [{**each, "master": names.get(each["master"])} if each["master"] else each for each in self.by_index.values()]

    def _take(self, kind: int, body: bytes) -> bool:
        family, hardware, index, flags, _ = _LINK.unpack_from(body)
        # A bridge speaks of its ports in a family of its own: one that leaves the bridge is not gone.
        if family != socket.AF_UNSPEC:
            return False
        if kind == _DEL_LINK:
            return self.by_index.pop(index, None) is not None
        found = attributes(body[_LINK.size :])
        info = attributes(found.get(_LINKINFO, b""))
        link: Link = {
            "ifindex": index,
            "ifname": _text(found.get(_IFNAME, b"")),
            "link_type": _HARDWARE.get(hardware, ""),
            "flags": tuple(word for bit, word in ((_UP, "UP"), (_LOOPBACK, "LOOPBACK")) if flags & bit),
            "master": int.from_bytes(found.get(_MASTER, b""), sys.byteorder),
            "linkinfo": {"info_kind": _text(info.get(_INFO_KIND, b"")), "info_slave_kind": _text(info.get(_INFO_SLAVE_KIND, b""))},
        }
        was, self.by_index[index] = self.by_index.get(index), link
        return was != link


@dataclass(slots=True)
class Rules:
    """The transactions on the packet filter, put together from the messages of each."""

    _changes: Counter[Change] = field(default_factory=Counter)

    def receive(self, sock: socket.socket) -> Iterator[Transaction]:
        """Yield the transactions that are through. Raises `LostError`."""
        for datagram in _datagrams(sock):
            for kind, body in messages(datagram):
                if kind == _SUBSYSTEM << 8 | _NEW_GENERATION:
                    yield self._ended(attributes(body[_NFGEN:]))
                elif kind >> 8 == _SUBSYSTEM and (known := _VERBS.get(kind & 0xFF)):
                    self._changes[Change(*known, _FAMILIES.get(body[0], str(body[0])), *_names(body))] += 1

    def _ended(self, found: dict[int, bytes]) -> Transaction:
        changes, self._changes = self._changes, Counter()
        return Transaction(changes, int.from_bytes(found.get(_GEN_PID, b""), "big"), _text(found.get(_GEN_NAME, b"")))


def _names(body: bytes) -> tuple[str, str]:
    """Return the first two names in a message: the table's, and the chain's or the set's. The rest of a rule is long."""
    length, _ = _ATTRIBUTE.unpack_from(body, _NFGEN)
    table = body[_NFGEN + _ATTRIBUTE.size : _NFGEN + length]
    at = _NFGEN + ((length + 3) & ~3)
    if at + _ATTRIBUTE.size > len(body):
        return _text(table), ""
    length, kind = _ATTRIBUTE.unpack_from(body, at)
    return _text(table), _text(body[at + _ATTRIBUTE.size : at + length]) if kind in _NAMES else ""


def _datagrams(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield sock.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            # ENOBUFS: the kernel dropped messages on this socket.
            raise LostError from error


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="surrogateescape")

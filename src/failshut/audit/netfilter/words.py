"""The numbers behind nft's words, by data type, and a constant as a closed interval of numbers.

Source: linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from failshut.model.ruleset import Meta, Opaque, Range, Scalar
from failshut.model.symbols import WORDS
from failshut.model.units import bounds

NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED = 8, 2, 4, 1, 64
ORIGINAL, REPLY = 0, 1
# IPS_SRC_NAT and IPS_DST_NAT of a connection's status.
SOURCE_TRANSLATED, TARGET_TRANSLATED = 0x10, 0x20
TRANSLATED = SOURCE_TRANSLATED | TARGET_TRANSLATED
NFPROTO = {4: 2, 6: 10}
ETHERTYPE = {4: 0x0800, 6: 0x86DD}
ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136
WITH_PORTS = (TCP, UDP, DCCP, SCTP, UDPLITE)

# Words that nft lists under another name.
_MORE: Mapping[str, Mapping[str, int]] = {
    "inet_proto": {"icmpv6": ICMPV6, "esp": 50, "ah": 51, "comp": 108, "gre": 47, "igmp": 2, "ipv6": 41, "ipencap": 4},
}


class NotUnderstoodError(ValueError):
    """A constant or an expression that the audit can't compute with; whoever meets it must let it be anything."""


def _checksum(path: str) -> int:
    return int.from_bytes(sha256(path.encode()).digest())


def account_number(name: str) -> int:
    """Return what stands for the number of a user or group that rules name: one of its own, among those that nobody is given."""
    if name.isdecimal():
        return int(name)
    return 0 if name == "root" else 0xF0000000 | int.from_bytes(sha256(name.encode()).digest()[:3])


_BY_NAME: Mapping[str, Callable[[str], int]] = {"cgroupsv2": _checksum, "uid": account_number, "gid": account_number}


def number(value: Scalar, kind: str) -> int:
    """Return a single constant as a number. Raises NotUnderstoodError for a prefix, a range or an unknown word."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, IPv4Address | IPv6Address):
        return int(value)
    if isinstance(value, str) and kind in _BY_NAME:
        return _BY_NAME[kind](value)
    if isinstance(value, str):
        for table in (WORDS, _MORE):
            if value in table.get(kind, {}):
                return table[kind][value]
        if kind == "ether_addr" and value.count(":") == 5:
            return int(value.replace(":", ""), 16)
        if value.isdecimal():
            return int(value)
    raise NotUnderstoodError(f"{value} is no {kind}")


# What stands for the devices that no rule names.
ANY_OTHER = re.compile(r"other\d+")


# Of iptables: what lets some packets of a kind through and others not, by their number, by chance or by the clock; and what an
# ipset holds while it lasts.
_SOMETIMES = frozenset({"statistic", "hashlimit", "connlimit", "rateest", "time", "timeout"})


def holds_sometimes(text: str) -> bool:
    """Whether a match of unknown meaning is one that every packet of a kind meets now and then, and now and then not."""
    return text.removeprefix("-m ").partition(" ")[0] in _SOMETIMES


# The same as nft says it. `meta time` is a date, and comes once.
_AGAIN = (Opaque("numgen"), Meta("hour"), Meta("day"))


def is_now_and_then(left: object) -> bool:
    """Whether an expression has each of its values now and then, whatever the packet is: by the clock, by its number, by chance."""
    return left in _AGAIN


_NETWORKS = (IPv4Network, IPv6Network)


def interval(value: Scalar, kind: str) -> tuple[int, int]:
    """Return a constant as the lowest and the highest number that it stands for. Raises NotUnderstoodError."""
    # A pair of types: to write them as one makes it anew for each of 100,000.
    if isinstance(value, _NETWORKS):
        return bounds(value)
    if isinstance(value, Range):
        return number(value.low, kind), number(value.high, kind)
    single = number(value, kind)
    return single, single


def names_match(pattern: str, name: str) -> bool:
    """Whether a constant interface name (a last `*` is any ending, unless escaped) stands for this device."""
    if pattern.endswith("\\*"):
        return name == pattern[:-2] + "*"
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern

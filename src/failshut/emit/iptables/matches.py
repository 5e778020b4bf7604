"""Matches as iptables' options. What is written here is read back by `read/iptables` as what it was."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from failshut.emit.nft_expressions import UnsupportedError
from failshut.model.ruleset import AnySet, Binary, BitOp, Ct, Exthdr, Fib, Left, Limit, Match, Meta, Op, Payload, Range
from failshut.model.symbols import WORDS

_K = TypeVar("_K", Meta, Payload)

ALL_BITS = 0xFFFFFFFF
_NAME = {"iifname": "-i", "oifname": "-o"}
_ADDRESS = {"saddr": ("-s", "src-range"), "daddr": ("-d", "dst-range")}
_PORTS = {"sport": "sport", "dport": "dport"}
_PORTED = ("tcp", "udp", "udplite", "sctp", "dccp")
_TYPES = {"icmp": ("icmp", "icmp-type", "icmp_type"), "icmpv6": ("icmp6", "icmpv6-type", "icmpv6_type")}
_HOPS = {"ttl": ("ttl", "ttl"), "hoplimit": ("hl", "hl")}
_LIMITS = {"iif": "--limit-iface-in", "oif": "--limit-iface-out"}
# An IPv6 packet's length is that of what follows its header, which iptables counts along.
_HEADER_LENGTH = 40
# No option of iptables asks how long an IPv4 header is: the first byte's lower half counts words of four bytes, five without
# options.
WITH_OPTIONS = "0>>24&0xF=6:15"


def match_words(match: Match) -> list[str]:  # noqa: C901, PLR0912 - one line a kind is the clearest table there is
    """Return the options of one match. Raises `UnsupportedError` for what iptables can't say."""
    words: Callable[[Match], list[str]]
    match match.left:
        case Meta(key) if key in _NAME:
            words = _interface
        case Meta("l4proto"):
            words = _protocol
        case Meta("skuid"):
            words = _owner
        case Payload("ip" | "ip6", field) if field in _ADDRESS:
            words = _address
        case Payload(protocol, field) if protocol in _PORTED and field in _PORTS:
            words = _port
        case Payload("icmp" | "icmpv6", "type"):
            words = _type
        case Payload("ip" | "ip6", "ttl" | "hoplimit"):
            words = _hops
        case Payload("ip6", "length"):
            words = _length
        case Payload("ip", "hdrlength"):
            words = _header
        case Ct("direction" | "state" | "status"):
            words = _connection
        case Fib(_, "type"):
            words = _route_type
        case Fib(("saddr", "iif"), "oif"):
            words = _way_back
        case Exthdr("rt", ""):
            words = _extension
        case _:
            words = _mark
    return words(match)


def limit_words(limit: Limit) -> list[str]:
    """Return a limit of packets."""
    if limit.over or limit.unit:
        raise UnsupportedError("iptables' limit counts packets, and holds up to a rate")
    return ["-m", "limit", "--limit", f"{limit.rate}/{limit.per}", "--limit-burst", str(limit.burst)]


def number_and_mask(left: Left) -> tuple[Left, int]:
    """Return what a bit pattern is taken of, and the mask."""
    match left:
        case Binary(BitOp.AND, Meta("mark") | Ct("mark", "") as of, int(mask)):
            return of, mask
        case Meta("mark") | Ct("mark", ""):
            return left, ALL_BITS
        case _:
            raise UnsupportedError(f"iptables can't ask for {left}")


def _of(match: Match, kind: type[_K]) -> _K:
    """Return the left side, which the table above has seen to be of that kind."""
    if not isinstance(match.left, kind):
        raise UnsupportedError(f"iptables can't ask for {match.left}")
    return match.left


def _not(match: Match) -> list[str]:
    if match.op not in (Op.EQ, Op.NE):
        raise UnsupportedError(f"iptables can't compare {match.left} by {match.op}")
    return ["!"] if match.op is Op.NE else []


def _interface(match: Match) -> list[str]:
    left = _of(match, Meta)
    if not isinstance(match.right, str) or any(each.isspace() or each in '"\\' for each in match.right):
        raise UnsupportedError(f"iptables can't take {match.right!r} as an interface's name")
    name = match.right
    if name.endswith("+"):
        raise UnsupportedError(f"iptables takes {name!r} for every interface that begins so")
    return [*_not(match), _NAME[left.key], f"{name[:-1]}+" if name.endswith("*") else name]


def _protocol(match: Match) -> list[str]:
    return [*_not(match), "-p", str(match.right)]


def _owner(match: Match) -> list[str]:
    right = match.right
    if isinstance(right, Range) and isinstance(right.low, int) and isinstance(right.high, int):
        # iptables takes no last number, which is nobody's.
        return [*("-m", "owner"), *_not(match), "--uid-owner", f"{right.low}-{min(right.high, ALL_BITS - 1)}"]
    if not isinstance(right, int):
        raise UnsupportedError(f"iptables can't ask for the users {right}")
    return [*("-m", "owner"), *_not(match), "--uid-owner", str(right)]


def _address(match: Match) -> list[str]:
    left = _of(match, Payload)
    option, ranged = _ADDRESS[left.field]
    right = match.right
    if isinstance(right, Range):
        return [*("-m", "iprange"), *_not(match), f"--{ranged}", f"{right.low}-{right.high}"]
    if not isinstance(right, IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        raise UnsupportedError(f"iptables can't take {right} as an address")
    return [*_not(match), option, str(right)]


def _port(match: Match) -> list[str]:
    left = _of(match, Payload)
    if isinstance(match.right, AnySet):
        listed = ",".join(_ports(each) for each in match.right.elements)
        return [*("-m", "multiport"), *_not(match), f"--{left.field}s", listed]
    if left.protocol == "udplite":
        # It has no match of its own.
        return [*("-m", "multiport"), *_not(match), f"--{left.field}s", _ports(match.right)]
    return [*("-m", left.protocol), *_not(match), f"--{left.field}", _ports(match.right)]


def _ports(value: object) -> str:
    match value:
        case int():
            return str(value)
        case Range(int(low), int(high)):
            return f"{low}:{high}"
        case _:
            raise UnsupportedError(f"iptables can't take {value} as a port")


def _type(match: Match) -> list[str]:
    left = _of(match, Payload)
    module, option, kind = _TYPES[left.protocol]
    number = WORDS[kind].get(match.right) if isinstance(match.right, str) else match.right
    if not isinstance(number, int):
        raise UnsupportedError(f"iptables can't take {match.right} as a type of {left.protocol}")
    return ["-m", module, *_not(match), f"--{option}", str(number)]


def _hops(match: Match) -> list[str]:
    left = _of(match, Payload)
    module, option = _HOPS[left.field]
    return ["-m", module, *_not(match), f"--{option}-eq", str(match.right)]


def _length(match: Match) -> list[str]:
    match match.right:
        case Range(int(low), int(high)):
            return ["-m", "length", *_not(match), "--length", f"{low + _HEADER_LENGTH if low else 0}:{high + _HEADER_LENGTH}"]
        case _:
            raise UnsupportedError(f"iptables can't take {match.right} as a length")


def _header(match: Match) -> list[str]:
    if match.op is not Op.EQ or match.right != Range(6, 15):
        raise UnsupportedError("of an IPv4 header's length iptables is asked only whether there are options")
    return ["-m", "u32", "--u32", WITH_OPTIONS]


def _connection(match: Match) -> list[str]:
    match match.left, match.right:
        case Ct("direction", ""), str(word):
            return [*("-m", "conntrack"), *_not(match), "--ctdir", word.upper()]
        case Ct("state" | "status", ""), AnySet(states) if match.op is Op.IN:
            # SNAT and DNAT are states to iptables, of a connection that has one.
            return ["-m", "conntrack", "--ctstate", ",".join(str(each).upper() for each in states)]
        case _:
            raise UnsupportedError(f"iptables can't compare {match.left} with {match.right}")


def _route_type(match: Match) -> list[str]:
    match match.left, match.right:
        case Fib(("saddr" | "daddr" as end, *limits), "type"), "local" if all(each in _LIMITS for each in limits):
            option = "--src-type" if end == "saddr" else "--dst-type"
            return [*("-m", "addrtype"), *_not(match), option, "LOCAL", *(_LIMITS[each] for each in limits)]
        case _:
            raise UnsupportedError(f"iptables can't ask the routing table for {match.left}")


def _way_back(match: Match) -> list[str]:
    if match.op is not Op.EQ or match.right not in ("exists", "missing"):
        raise UnsupportedError(f"iptables can't compare {match.left} with {match.right}")
    return ["-m", "rpfilter", *(["--invert"] if match.right == "missing" else [])]


def _extension(match: Match) -> list[str]:
    if match.op is not Op.EQ or match.right != "exists":
        raise UnsupportedError("iptables asks for a routing header that is there")
    return ["-m", "rt"]


def _mark(match: Match) -> list[str]:
    of, mask = number_and_mask(match.left)
    if not isinstance(match.right, int):
        raise UnsupportedError(f"iptables can't compare {match.left} with {match.right}")
    module = "mark" if isinstance(of, Meta) else "connmark"
    shown = f"{match.right:#x}" if mask == ALL_BITS else f"{match.right:#x}/{mask:#x}"
    return ["-m", module, *_not(match), "--mark", shown]

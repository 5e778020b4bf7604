"""Matches on one field of the packet or its surroundings, and those that count."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, IPv6Network

from failshut.model.ruleset import Exthdr, Fib, Limit, Match, Meta, Op, Payload, Quota, Range, RawPayload, Rt, Socket
from failshut.model.symbols import word_of
from failshut.read.iptables.meaning.ways import (
    ALL_BITS,
    ALWAYS,
    FULL_MASK,
    NEVER,
    Seen,
    UnsureError,
    Ways,
    WrongError,
    address,
    any_of,
    bits,
    both,
    compared,
    named,
    option,
    span,
    unsure,
    value,
    value_and_mask,
)
from failshut.read.iptables.names import DSCP_CLASSES, TOS_NAMES, number
from failshut.read.iptables.tree import Option, Part

_ADDRESS_TYPES = (
    "UNSPEC",
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
)
# Types of routes that nft has no word for.
_OTHER_TYPES = frozenset({"THROW", "NAT", "XRESOLVE"})
_PACKET_TYPES = {"UNICAST": "host", "HOST": "host", "BROADCAST": "broadcast", "MULTICAST": "multicast", "OTHERHOST": "other"}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
# The lower half of the packet's first byte, as it is written and as iptables-save writes it.
_HEADER_LENGTH = re.compile(r"0(?:x0)?>>(?:24|0x18)&0x[fF]=(\w+):(\w+)")
_COMPARISONS = {"eq": Op.EQ, "lt": Op.LT, "gt": Op.GT, "": Op.EQ}


def addrtype(part: Part, seen: Seen) -> Ways:
    """`-m addrtype`: what kind of address it is to the routing table, or to one interface of it."""
    suffix: dict[str, tuple[str, ...]] = {"limit-iface-in": ("iif",), "limit-iface-out": ("oif",)}
    limits = [suffix[each.name] for each in part.options if each.name in suffix]
    limit = limits[0] if limits else ()
    found = []
    for given in part.options:
        if given.name not in ("src-type", "dst-type"):
            continue
        types = [named(each, (*_ADDRESS_TYPES, *_OTHER_TYPES)) for each in given.values[0].split(",")]
        if "" in types:
            raise WrongError(f"no address is of a type {given.values[0]!r}", given, help=f"one of {', '.join(_ADDRESS_TYPES)}")
        if not _OTHER_TYPES.isdisjoint(types):
            return unsure(f"-m {part}")
        field = "saddr" if given.name == "src-type" else "daddr"
        if seen.version == 6:
            found.append(_type_of_six(field, types, given, limit))
            continue
        found.append(compared(Fib((field, *limit), "type"), any_of(each.lower() for each in types), negated=given.negated))
    return both(*found)


def _type_of_six(field: str, types: list[str], given: Option, limit: tuple[str, ...]) -> Ways:
    """Return IPv6's notion of a type, which is the address's own form, and a route only for LOCAL (xt_addrtype.c, match_type6).

    Limited to an interface, LOCAL asks what nft's `fib saddr . oif type` does (nft_fib6_eval_type).
    """
    left = Payload("ip6", field)
    match types:
        case ["MULTICAST"]:
            return compared(left, IPv6Network("ff00::/8"), negated=given.negated)
        case ["UNSPEC"]:
            return compared(left, IPv6Address("::"), negated=given.negated)
        case ["UNICAST"]:
            others = any_of((IPv6Address("::"), IPv6Network("::ffff:0:0/96"), IPv6Network("ff00::/8")))
            return compared(left, others, negated=not given.negated)
        case ["LOCAL"]:
            return compared(Fib((field, *limit), "type"), "local", negated=given.negated)
        case _:
            return unsure(f"-m addrtype {given}")


def pkttype(part: Part, seen: Seen) -> Ways:
    """`--pkt-type`: whether the link layer addressed it to this machine."""
    del seen
    given = _needed(part, "pkt-type")
    word = _PACKET_TYPES.get(named(given.values[0], _PACKET_TYPES))
    if not word:
        raise WrongError(f"no packet is of a type {given.values[0]!r}", given, help=f"one of {', '.join(_PACKET_TYPES)}".lower())
    return compared(Meta("pkttype"), word, negated=given.negated)


def iprange(part: Part, seen: Seen) -> Ways:
    """`--src-range` and `--dst-range`: from one address to another."""
    found = []
    for given in part.options:
        low, dash, high = given.values[0].partition("-")
        first = address(low, seen.version, given)
        last = address(high, seen.version, given) if dash else first
        if int(last) < int(first):
            raise WrongError(f"the range {given.values[0]!r} ends before it begins", given)
        left = Payload(seen.ip, "saddr" if given.name == "src-range" else "daddr")
        if int(last) - int(first) == FULL_MASK[seen.version]:
            found.append(NEVER if given.negated else ALWAYS)
        else:
            found.append(compared(left, first if first == last else Range(first, last), negated=given.negated))
    return both(*found)


def mark(part: Part, seen: Seen) -> Ways:
    """`-m mark`: some bits of the packet's mark."""
    del seen
    given = _needed(part, "mark")
    wanted, mask = value_and_mask(given)
    return bits(Meta("mark"), wanted, mask, ALL_BITS, negated=given.negated)


def length(part: Part, seen: Seen) -> Ways:
    """`--length`: the IP packet's, header included."""
    given = _needed(part, "length")
    wanted = span(given, 65535)
    if seen.version == 4:
        return compared(Payload("ip", "length"), wanted, negated=given.negated)
    # IPv6 counts what follows its 40 bytes.
    low, high = (wanted.low, wanted.high) if isinstance(wanted, Range) else (wanted, wanted)
    low, high = max(int(low) - 40, 0) if isinstance(low, int) else 0, int(high) - 40 if isinstance(high, int) else 0
    if high < 0:
        return ALWAYS if given.negated else NEVER
    return compared(Payload("ip6", "length"), low if low == high else Range(low, high), negated=given.negated)


def ttl(part: Part, seen: Seen) -> Ways:
    """`-m ttl` and `-m hl`: how many hops the packet may still take."""
    left = Payload("ip", "ttl") if seen.version == 4 else Payload("ip6", "hoplimit")
    found = []
    for given in part.options:
        operator = _COMPARISONS[given.name.partition("-")[2]]
        if given.negated and operator is not Op.EQ:
            raise WrongError(f"--{given.name} can't be negated", given)
        found.append(((Match(left, value(given, 255), Op.NE if given.negated else operator),),))
    if not found:
        raise WrongError(f"-m {part.name} needs an option", _whole(part))
    return both(*found)


def dscp(part: Part, seen: Seen) -> Ways:
    """`--dscp` and `--dscp-class`."""
    given = part.options[0] if part.options else None
    if not given:
        raise WrongError("-m dscp needs --dscp or --dscp-class", _whole(part))
    wanted = DSCP_CLASSES.get(given.values[0].lower()) if given.name == "dscp-class" else number(given.values[0], 63)
    if wanted is None:
        raise WrongError(f"{given.values[0]!r} is no DSCP", given)
    return compared(Payload(seen.ip, "dscp"), word_of(wanted, "dscp"), negated=given.negated)


def tos(part: Part, seen: Seen) -> Ways:
    """`--tos`: the byte that IPv4 calls type of service and IPv6 traffic class."""
    given = _needed(part, "tos")
    named = TOS_NAMES.get(given.values[0].lower())
    wanted, mask = (named, 0x3F) if named is not None else value_and_mask(given, 0xFF)
    return bits(tos_field(seen), wanted, mask, 0xFF, negated=given.negated)


def tos_field(seen: Seen) -> RawPayload:
    """Return where that byte is; nft has no name for the whole of it."""
    return RawPayload("nh", 8 if seen.version == 4 else 4, 8)


def mac(part: Part, seen: Seen) -> Ways:
    """`--mac-source`: who sent the frame that the packet came in."""
    del seen
    given = _needed(part, "mac-source")
    pairs = given.values[0].lower().split(":")
    if len(pairs) != 6 or not all(len(each) in (1, 2) and set(each) <= set("0123456789abcdef") for each in pairs):
        raise WrongError(f"{given.values[0]!r} is no MAC address", given)
    return compared(Payload("ether", "saddr"), ":".join(each.zfill(2) for each in pairs), negated=given.negated)


def devgroup(part: Part, seen: Seen) -> Ways:
    """`--src-group` and `--dst-group`: the group that an interface was put in."""
    del seen
    found = []
    for given in part.options:
        if not given.values[0][:1].isdecimal():
            raise UnsureError(f"which group {given.values[0]!r} is depends on the machine: write its number", given)
        wanted, mask = value_and_mask(given)
        left = Meta("iifgroup" if given.name == "src-group" else "oifgroup")
        found.append(bits(left, wanted, mask, ALL_BITS, negated=given.negated))
    return both(*found)


def cgroup(part: Part, seen: Seen) -> Ways:
    """`-m cgroup`: the control group of the program that sends, by class (v1) or by path (v2)."""
    del seen
    given = part.options[0] if part.options else None
    if not given:
        raise WrongError("-m cgroup needs --cgroup or --path", _whole(part))
    if given.name == "cgroup":
        return compared(Meta("cgroup"), value(given, ALL_BITS), negated=given.negated)
    path = given.values[0].strip("/")
    return compared(Socket("cgroupv2", path.count("/") + 1), path, negated=given.negated)


def cpu(part: Part, seen: Seen) -> Ways:
    """`--cpu`: which processor has the packet."""
    del seen
    given = _needed(part, "cpu")
    return compared(Meta("cpu"), value(given, ALL_BITS), negated=given.negated)


def limit(part: Part, seen: Seen) -> Ways:
    """`--limit rate/unit --limit-burst packets`; without them 3/hour and 5."""
    del seen
    rate, burst = option(part, "limit"), option(part, "limit-burst")
    text = rate.values[0] if rate else "3/hour"
    count, _, unit = text.partition("/")
    word = next((each for each in _SECONDS if unit and each.startswith(unit.lower())), "" if unit else "second")
    wanted = number(count, ALL_BITS)
    if rate and rate.negated:
        raise WrongError("a limit can't be negated", rate)
    if rate and (not wanted or not word):
        raise WrongError(f"{text!r} is no rate", rate, help="as in 3/min")
    often, per = _as_saved(wanted or 3, word)
    return ((Limit(often, per, value(burst, 10000) if burst else 5),),)


def _as_saved(rate: int, unit: str) -> tuple[int, str]:
    """Return a rate in the shortest unit that it is a whole number of: iptables keeps a time, and saves 24/day as 1/hour."""
    whole = ((rate * seconds, shorter) for shorter, seconds in _SECONDS.items() if rate * seconds % _SECONDS[unit] == 0)
    times, shortest = next(whole)
    return times // _SECONDS[unit], shortest


def quota(part: Part, seen: Seen) -> Ways:
    """`--quota`: so many bytes in all."""
    del seen
    given = _needed(part, "quota")
    return ((Quota(value(given, (1 << 64) - 1), over=given.negated),),)


def recent(part: Part, seen: Seen) -> Ways:
    """`-m recent`: `--set` holds for every packet (xt_recent.c); what is in a list, packets decide."""
    given = option(part, "set")
    if not given or any(option(part, each) for each in ("rcheck", "update", "remove")):
        return not_known(part, seen)
    return NEVER if given.negated else ALWAYS


def policy(part: Part, seen: Seen) -> Ways:
    """`-m policy`: whether IPsec takes a packet on its way out, or had it on its way in; of the transformation it knows no more."""
    del seen
    direction, found = (_needed(part, each).values[0].lower() for each in ("dir", "pol"))
    if direction not in ("in", "out") or found not in ("none", "ipsec"):
        raise WrongError("-m policy takes --dir in or out, and --pol none or ipsec", _whole(part))
    said = compared(Rt("ipsec") if direction == "out" else Meta("ipsec"), "exists" if found == "ipsec" else "missing")
    return both(said, ALWAYS if all(each.name in ("dir", "pol") for each in part.options) else unsure(f"-m {part}"))


def routing(part: Part, seen: Seen) -> Ways:
    """`-m rt`: IPv6's routing header; what it says of the addresses in it is not known."""
    del seen
    fields = {"rt-type": ("type", 255), "rt-segsleft": ("seg-left", 255)}
    known = [
        compared(Exthdr("rt", fields[each.name][0]), span(each, fields[each.name][1]), negated=each.negated)
        for each in part.options
        if each.name in fields
    ]
    return _extension("rt", part, known)


def rpfilter(part: Part, seen: Seen) -> Ways:
    """`-m rpfilter`: whether an answer would go back by where the packet came from, as nft's `fib saddr . iif oif` asks."""
    if any(each.name != "invert" for each in part.options):
        return not_known(part, seen)
    return compared(Fib(("saddr", "iif"), "oif"), "missing" if part.options else "exists")


def u32(part: Part, seen: Seen) -> Ways:
    """`-m u32`: of all that it can ask, whether an IPv4 header has options."""
    found = _HEADER_LENGTH.fullmatch(_needed(part, "u32").values[0])
    if seen.version != 4 or not found or part.options[0].negated:
        return not_known(part, seen)
    numbers = [number(each, 15) for each in found.groups()]
    low, high = (each if each is not None else -1 for each in numbers)
    return compared(Payload("ip", "hdrlength"), Range(low, high)) if 0 <= low < high else not_known(part, seen)


def fragment(part: Part, seen: Seen) -> Ways:
    """`-m frag`: IPv6's fragment header."""
    del seen
    known = []
    for given in part.options:
        match given.name:
            case "fragid":
                known.append(compared(Exthdr("frag", "id"), span(given, ALL_BITS), negated=given.negated))
            case "fragfirst":
                known.append(compared(Exthdr("frag", "frag-off"), 0))
            case "fragmore" | "fraglast":
                known.append(compared(Exthdr("frag", "more-fragments"), int(given.name == "fragmore")))
            case _:
                pass
    return _extension("frag", part, known)


def extension(part: Part, seen: Seen) -> Ways:
    """`-m hbh` and `-m dst`: whether IPv6's options are there; what they are is not known."""
    del seen
    return _extension(part.name, part, [])


def _extension(name: str, part: Part, known: list[Ways]) -> Ways:
    there = compared(Exthdr(name), "exists")
    rest: Ways = ALWAYS if len(known) == len(part.options) else unsure(f"-m {part}")
    return both(there, *known, rest)


def left_alone(part: Part, seen: Seen) -> Ways:
    """`-m comment` and `-m nfacct`: they say or count something, and hold for every packet."""
    del part, seen
    return ALWAYS


def not_known(part: Part, seen: Seen) -> Ways:
    """Return that the match may hold or not."""
    del seen
    return unsure(f"-m {part}")


def _needed(part: Part, name: str) -> Option:
    found = option(part, name)
    if not found:
        raise WrongError(f"-m {part.name} needs --{name}", _whole(part))
    return found


def _whole(part: Part) -> Option:
    return Option(part.name, (), negated=False, at=part.at)

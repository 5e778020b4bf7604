"""What `ipset save` prints → its sets: what iptables' `-m set` asks for stands there, and not in iptables-save.

Source: ipset(8), and what ipset 7.17 saves. Never raises: a line that is not understood is a finding, and its set may hold
anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from failshut.model.finding import Code
from failshut.model.ruleset import Range
from failshut.model.units import Address, Prefix
from failshut.read.iptables.names import ICMP, ICMPV6, number, port_number, protocol_number
from failshut.read.iptables.remarks import Remarks

_CREATE = re.compile(r"(?m)^create \S+ (?:hash|bitmap|list):")
# Rules of iptables whose packets put something into a set, or take it out.
_CHANGES = re.compile(r"--(?:add|del)-set[ \t]+(\S+)")
_WORDS = re.compile(r'"[^"]*"|\S+')
# What follows them is no value.
_FLAGS = frozenset({"counters", "comment", "forceadd", "skbinfo", "nomatch", "-exist", "-!"})
_CREATED = frozenset({"family", "hashsize", "maxelem", "timeout", "netmask", "range", "size", "bucketsize", "initval"})
_ADDED = frozenset({"timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue"})
_TCP, _ICMP, _ICMPV6 = 6, 1, 58
_WIDTH = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Service:
    """A protocol and its ports; of ICMP the type and code (256 * type + code), of others 0."""

    protocol: int
    ports: int | Range


Part = Address | Prefix | Range | Service | str | int


@dataclass(frozen=True, slots=True)
class Entry:
    """One element, a part for each dimension. One with `nomatch` is spared by a wider one."""

    parts: tuple[Part, ...]
    nomatch: bool = False


@dataclass(slots=True)
class IpSet:
    """A set: its dimensions (`net`, `port`, …; of a list of sets `set`), and the IP version of its addresses, 0 for none.

    `timed` says that elements may end; `unclear` why nothing is known of what it holds.
    """

    name: str
    dimensions: tuple[str, ...]
    version: int
    netmask: int = 0
    timed: bool = False
    entries: list[Entry] = field(default_factory=list)
    unclear: str = ""


@dataclass(frozen=True, slots=True)
class IpSets:
    """Every set of a machine. `listed` says whether anybody said which there are; `changed` are those that packets change."""

    known: Mapping[str, IpSet] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    listed: bool = False


def is_ipset_save(text: str) -> bool:
    """Whether a text is what `ipset save` prints."""
    return _CREATE.search(text) is not None


def changed_by(rules: Iterable[str]) -> frozenset[str]:
    """Return the sets that rules of iptables change."""
    return frozenset(name for text in rules for name in _CHANGES.findall(text))


def read_ipsets(text: str, remarks: Remarks) -> dict[str, IpSet]:
    """Return the sets by name. What is wrong goes to `remarks`."""
    found: dict[str, IpSet] = {}
    for at, line in enumerate(text.split("\n"), start=1):
        words = _WORDS.findall(line)
        if not words or words[0].startswith("#") or words[0] in ("COMMIT", "quit"):
            continue
        try:
            _line([each for each in words if each not in ("-exist", "-!")], found)
        except ValueError as error:
            said = next((each for each in words[1:2] if each in found), "")
            if said:
                found[said].unclear = f"line {at} of what `ipset save` prints is not understood"
            remarks.error(Code.RULES_SYNTAX, str(error), (at, 1, len(line)), "give what `ipset save` prints")
    return found


def _line(words: list[str], found: dict[str, IpSet]) -> None:
    match words:
        case ["create" | "-N" | "n", name, kind, *options]:
            found.setdefault(name, _created(name, kind, dict(_options(options))))
        case ["add" | "-A" | "a", name, element, *options] if name in found:
            _add(found[name], element, dict(_options(options)))
        case ["add", name, *_]:
            raise ValueError(f"no set {name} is created before this line")
        case ["flush" | "-F", name] if name in found:
            found[name].entries.clear()
        case ["destroy" | "-X", name] if name in found:
            del found[name]
        case _:
            raise ValueError("ipset saves no such line")


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    rest = iter(words)
    for each in rest:
        # `comment` says of a set that it has them, and of an element what it is.
        if each in _FLAGS and not (each == "comment" and words[-1].startswith('"')):
            yield each, ""
        else:
            yield each, next(rest, "")


def _created(name: str, kind: str, options: dict[str, str]) -> IpSet:
    family, _, dimensions = kind.partition(":")
    parts = tuple(dimensions.split(","))
    version = 6 if options.get("family") == "inet6" else 4
    made = IpSet(name, parts, version if {"ip", "net"} & set(parts) else 0, timed="timeout" in options)
    unknown = [each for each in options if each not in _CREATED | _FLAGS]
    if family not in ("hash", "bitmap", "list") or unknown or not set(parts) <= _DIMENSIONS:
        made.unclear = f"a set of {' '.join((kind, *unknown))} is not understood"
    if "netmask" in options:
        made.netmask = int(options["netmask"])
    return made


def _add(to: IpSet, element: str, options: dict[str, str]) -> None:
    if unknown := [each for each in options if each not in _ADDED | _FLAGS]:
        to.unclear = f"an element with {' '.join(unknown)} is not understood"
        return
    said = element.split(",")
    if to.unclear or len(said) != len(to.dimensions):
        to.unclear = to.unclear or f"the element {element} is not understood"
        return
    to.entries.append(
        Entry(tuple(_PARTS[kind](each, to) for kind, each in zip(to.dimensions, said, strict=True)), "nomatch" in options)
    )


def _address(text: str, of: IpSet) -> Address | Prefix | Range:
    low, dash, high = text.partition("-")
    network = ip_network(low, strict=False)
    if network.version != of.version:
        raise ValueError(f"{text} is no address of IPv{of.version}")
    if dash:
        first, last = network.network_address, ip_address(high)
        if type(first) is not type(last) or int(last) < int(first):
            raise ValueError(f"{text} is no range of addresses")
        return Range(first, last)
    width = _WIDTH[of.version]
    if of.netmask and of.netmask < network.prefixlen:
        network = network.supernet(new_prefix=of.netmask)
    return network.network_address if network.prefixlen == width else network


def _service(text: str, of: IpSet) -> Service | Range | int:
    protocol, colon, ports = text.rpartition(":")
    if of.dimensions == ("port",):
        # A bitmap's, of TCP and UDP alike.
        return _ports(text)
    found = protocol_number(protocol) if colon else _TCP
    if found is None:
        raise ValueError(f"{protocol!r} is no protocol")
    if found in (_ICMP, _ICMPV6):
        return Service(found, _message(ports, found))
    return Service(found, _ports(ports))


def _message(text: str, protocol: int) -> int:
    kind, slash, code = text.partition("/")
    first, second = number(kind, 255), number(code, 255) if slash else 0
    if first is None:
        first, named = (ICMP if protocol == _ICMP else ICMPV6).get(text, (None, None))
        second = named or 0
    if first is None or second is None:
        raise ValueError(f"{text!r} is no type of ICMP")
    return first << 8 | second


def _ports(text: str) -> int | Range:
    low, dash, high = text.partition("-")
    first, last = port_number(low), port_number(high if dash else low)
    if first is None or last is None or last < first:
        raise ValueError(f"{text!r} is no port")
    return first if first == last else Range(first, last)


def _device(text: str, of: IpSet) -> str:
    if text.startswith("physdev:"):
        of.unclear = "a bridge's port is not told from another"
    return text


def _mark(text: str, of: IpSet) -> int:
    del of
    found = number(text, 0xFFFFFFFF)
    if found is None:
        raise ValueError(f"{text!r} is no mark")
    return found


def _name(text: str, of: IpSet) -> str:
    del of
    return text


_PARTS = {"ip": _address, "net": _address, "port": _service, "iface": _device, "mark": _mark, "set": _name}
_DIMENSIONS = _PARTS.keys()


def matching(entries: Iterable[Entry]) -> tuple[Address | Prefix | Range, ...]:
    """Return what a set of networks holds: of the elements that hold an address, the narrowest says whether it matches."""
    said = [(each.parts[0], each.nomatch) for each in entries]
    if not any(nomatch for _, nomatch in said):
        return tuple(part for part, _ in said)  # type: ignore[misc] # a set of one dimension, which is an address
    version = 6 if any(isinstance(low, IPv6Address) for part, _ in said for low in (getattr(part, "network_address", part),)) else 4
    borders = sorted((low, -high, nomatch) for part, nomatch in said for low, high in (_bounds(part),))
    return tuple(_between(low, high, version) for low, high in _spared(borders))


def _bounds(part: object) -> tuple[int, int]:
    if isinstance(part, Range):
        return int(part.low), int(part.high)
    network = ip_network(part)  # type: ignore[arg-type] # an address or a prefix
    return int(network.network_address), int(network.broadcast_address)


def _spared(borders: list[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """Yield the intervals that match; each of `borders` lies within one before it or after all of those."""
    stack: list[tuple[int, bool]] = []
    at = 0

    def until(end: int) -> Iterator[tuple[int, int]]:
        nonlocal at
        if stack and not stack[-1][1] and at <= end:
            yield at, end
        at = max(at, end + 1)

    for low, negative, nomatch in borders:
        while stack and stack[-1][0] < low:
            yield from until(stack[-1][0])
            stack.pop()
        yield from until(low - 1)
        at = low
        stack.append((-negative, nomatch))
    while stack:
        yield from until(stack[-1][0])
        stack.pop()


def _between(low: int, high: int, version: int) -> Address | Range:
    make = IPv4Address if version == 4 else IPv6Address
    return make(low) if low == high else Range(make(low), make(high))

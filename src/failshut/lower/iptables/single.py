"""One rule of nft's → the rules of one family that iptables needs for it: a set is as many rules as it has elements.

The statements come out as they are read back from iptables-save: first what iptables' rule header has, in its order, then ports,
then the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from itertools import chain, product

from failshut.lower.rules import simplest
from failshut.model.ruleset import (
    AnySet,
    Concat,
    Element,
    Exthdr,
    HeaderOption,
    Left,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    Right,
    Tuple,
)

Matches = tuple[Match, ...]

# No user has the last number (setuid(2)).
_LAST_USER = 0xFFFFFFFF
_MOST_PORTS = 15
_OF_VERSION = {"ip": 4, "icmp": 4, "ip6": 6, "icmpv6": 6}
_PROTOCOLS = {"icmp": "icmp", "icmpv6": "ipv6-icmp", **{each: each for each in ("tcp", "udp", "udplite", "sctp", "dccp")}}
_L4PROTO = Meta("l4proto")
_HEADER = (
    *(Payload(family, field) for field in ("saddr", "daddr") for family in ("ip", "ip6")),
    Meta("iifname"),
    Meta("oifname"),
    _L4PROTO,
)
_NAMES = {"oif": "oifname", "iif": "iifname"}


def ways(matches: Iterable[Match], version: int) -> list[Matches]:
    """Return the conjunctions that together are `matches`; none when it is about the other family's packets."""
    every = [list(_single(each, version)) for each in matches]
    found = (_ordered(chain.from_iterable(each)) for each in product(*every))
    return list(dict.fromkeys(each for each in found if each is not None))


def excluded(match: Match, *, alone: bool) -> bool:
    """Whether a match is "none of these", which one rule of iptables can't say but for ports and users.

    `alone`: no other match of the rule asks the same field; an option of iptables' own can be said once.
    """
    if match.op is not Op.NE or _is_port(match.left) or match.left == Meta("skuid"):
        return False
    return isinstance(match.right, AnySet) or not alone


def excluding(match: Match) -> Iterator[Match]:
    """Yield the match on each of the elements of "none of these"."""
    for each in match.right.elements if isinstance(match.right, AnySet) else (match.right,):
        yield Match(match.left, _right(each))


def _single(match: Match, version: int) -> Iterator[Matches]:  # noqa: C901 - one line a kind is the clearest table
    left, right = match.left, match.right
    if _version(left) not in (None, version):
        return
    match left, right:
        case Meta(key), _ if key in _NAMES:
            yield from _single(Match(Meta(_NAMES[key]), right, match.op), version)
        case Meta("skuid"), _ if match.op is not Op.EQ:
            yield from ((Match(left, each),) for each in _users(match))
        case Payload("ip6", "length"), int(most) if match.op is Op.LE:
            yield (Match(left, Range(0, most)),)
        case Concat(parts), AnySet(elements):
            for each in elements:
                yield from _tuple(parts, each, version)
        case Concat(parts), Tuple():
            yield from _tuple(parts, right, version)
        case _, AnySet() if match.op is Op.IN:
            yield (match,)
        case _, AnySet(elements) if match.op is Op.EQ and _is_port(left):
            yield from ((Match(left, each),) for each in _lists(elements))
        case _, AnySet(elements) if match.op is Op.EQ:
            yield from (way for each in elements for way in _single(Match(left, _right(each)), version))
        case _, Range(IPv4Address() | IPv6Address() as low, IPv4Address() | IPv6Address() as high):
            # iptables-save moves what is no option of its own behind those that are.
            yield from ((Match(left, simplest(each)),) for each in summarize_address_range(low, high))
        case _:
            yield (match,)


def _tuple(parts: Iterable[object], element: Element, version: int) -> Iterator[Matches]:
    values = element.parts if isinstance(element, Tuple) else (element,)
    pairs = [(left, value) for left, value in zip(parts, values, strict=True) if isinstance(left, Left)]
    if all(_version(left) in (None, version) for left, _ in pairs):
        yield tuple(Match(left, _right(value)) for left, value in pairs)


def _right(element: Element | Right) -> Right:
    if isinstance(element, Tuple | Right):
        return element
    raise TypeError(f"{element} is no constant")


def _is_port(left: Left) -> bool:
    return isinstance(left, Payload) and left.field in ("sport", "dport")


def _lists(elements: tuple[Element, ...]) -> Iterator[Right]:
    """Yield the ports in lists that multiport takes; a range counts twice."""
    waiting: list[Element] = []
    weight = 0
    for each in elements:
        own = 2 if isinstance(each, Range) else 1
        if weight + own > _MOST_PORTS:
            yield _list(waiting)
            waiting, weight = [], 0
        waiting.append(each)
        weight += own
    if waiting:
        yield _list(waiting)


def _list(elements: list[Element]) -> Right:
    return _right(elements[0]) if len(elements) == 1 else AnySet(tuple(elements))


def _users(match: Match) -> Iterator[Right]:
    """Yield the users that are none of these, as ranges. A packet without a user is in none, as with nft."""
    given = match.right.elements if isinstance(match.right, AnySet) else (match.right,)
    numbers = sorted(each for each in given if isinstance(each, int))
    match match.op:
        case Op.GE if len(numbers) == 1:
            yield Range(numbers[0], _LAST_USER)
        case Op.NE if len(numbers) == len(given):
            first = 0
            for each in (*numbers, _LAST_USER + 1):
                if each > first:
                    yield Range(first, each - 1) if each - 1 > first else first
                first = each + 1
        case _:
            raise ValueError(f"users can't be compared by {match.op}")


def _version(left: object) -> int | None:
    match left:
        case Payload(protocol) | HeaderOption(protocol):
            return _OF_VERSION.get(protocol)
        case Exthdr():
            return 6
        case _:
            return None


def _ordered(matches: Iterable[Match]) -> Matches | None:
    """Return the matches in iptables' order, with the protocol that a header needs; None when no packet can be both."""
    given = tuple(dict.fromkeys(matches))
    protocols = {str(each.right) for each in given if each.left == _L4PROTO and each.op is Op.EQ}
    protocols |= {
        _PROTOCOLS[each.left.protocol] for each in given if isinstance(each.left, Payload) and each.left.protocol in _PROTOCOLS
    }
    if len(protocols) > 1:
        return None
    others = [each for each in given if each.left != _L4PROTO or each.op is not Op.EQ]
    for protocol in protocols:
        others = [_of_protocol(each, protocol) for each in others] + [Match(_L4PROTO, protocol)]
    return tuple(sorted(others, key=_rank))


def _of_protocol(match: Match, protocol: str) -> Match:
    left = match.left
    if isinstance(left, Payload) and left.protocol == "th":
        return Match(Payload(protocol, left.field), match.right, match.op)
    return match


def _rank(match: Match) -> int:
    """Return where iptables-save has a match: its header's options, then the ports of `-m udp`, then those of `-m multiport`."""
    if match.left in _HEADER:
        return _HEADER.index(match.left)
    if not _is_port(match.left) or not isinstance(match.left, Payload):
        return 100
    listed = 10 * isinstance(match.right, AnySet)
    return 50 + listed + (match.left.field == "dport")

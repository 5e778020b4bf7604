"""Short words to write rules with, and the one place that knows how a mixed list of prefixes splits into families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import NamedTuple

from failshut.model.ruleset import AnySet, Ct, Jump, Left, Match, Meta, Op, Payload, Range, Right, Rule, Scalar, Statement, Tuple
from failshut.model.units import Address, Prefix, bounds

# What every chain calls the decision "this may use the underlay".
ALLOWED = Jump("allowed", goto=True)

# By IP version: nft's word for the header, and for the type of its addresses.
FAMILIES = {"4": ("ip", "ipv4_addr"), "6": ("ip6", "ipv6_addr")}

META_MARK = Meta("mark")
OIFNAME = Meta("oifname")
IIFNAME = Meta("iifname")
L4PROTO = Meta("l4proto")
# Every protocol whose packets have ports.
PORTED = AnySet(("tcp", "udp", "udplite", "sctp", "dccp"))
SKUID = Meta("skuid")

# What of a connection has another address than it began with; as iptables-save's `--ctstate SNAT,DNAT` is read.
TRANSLATED = (
    Match(Ct("state"), AnySet(("new", "established", "related")), Op.IN),
    Match(Ct("status"), AnySet(("dnat", "snat")), Op.IN),
)

# DNS and DNS over TLS; mDNS and LLMNR also answer a question that is sent to one host.
DNS_PORTS = (53, 853)
LOOKUP_PORTS = (*DNS_PORTS, 5353, 5355)


def rule(comment: str, *statements: Statement) -> Rule:
    """Return a rule that says why it is there."""
    return Rule(statements, comment)


def is_(left: Left, right: Right) -> Match:
    """Return the match `left == right`."""
    return Match(left, right)


def is_not(left: Left, right: Right) -> Match:
    """Return the match `left != right`."""
    return Match(left, right, Op.NE)


def to_ports(ports: Iterable[int]) -> tuple[Match, Match]:
    """Return the match on these destination ports, by whatever protocol."""
    return is_(L4PROTO, PORTED), is_(Payload("th", "dport"), AnySet(tuple(ports)))


def any_of(elements: Iterable[Scalar | Tuple]) -> Right:
    """Return an anonymous set without repeats, or the element itself when there is only one. Raises ValueError for none."""
    unique = tuple(dict.fromkeys(elements))
    if not unique:
        raise ValueError("an empty set matches nothing: leave the rule out instead")
    return unique[0] if len(unique) == 1 else AnySet(unique)


def simplest(prefix: Prefix) -> Address | Prefix:
    """Return a host prefix as its address: nft lists it so, and read-back compares by value."""
    low, high = bounds(prefix)
    return prefix.network_address if low == high else prefix


def address_matches(field: str, prefixes: Iterable[Prefix]) -> Iterator[Match]:
    """Yield one match on `ip FIELD` and one on `ip6 FIELD`, for the families that occur; overlapping prefixes are merged.

    nft refuses overlapping elements of an anonymous interval set, so 10.0.0.0/8 with 10.1.0.0/16 must become 10.0.0.0/8 here.
    """
    for version, protocol in ((4, "ip"), (6, "ip6")):
        kept: list[_Span] = []
        # By address, the wider first: prefixes nest or are apart, so that only the last one kept can hold the next.
        for span in sorted((_span(each) for each in prefixes if each.version == version), key=lambda span: (span.low, -span.high)):
            if not kept or span.low > kept[-1].high:
                kept.append(span)
        if kept:
            yield is_(Payload(protocol, field), any_of(_as_listed(kept)))


def between(sources: Iterable[Prefix], targets: Iterable[Prefix]) -> Iterator[tuple[Match, Match]]:
    """Yield the matches on a packet from one of `sources` to one of `targets`, for the families that both have."""
    there = {match.left: match for match in address_matches("daddr", targets)}
    for match in address_matches("saddr", sources):
        if isinstance(match.left, Payload) and (target := there.get(replace(match.left, field="daddr"))):
            yield match, target


class _Span(NamedTuple):
    """A prefix with its bounds as numbers: `ipaddress` works them out anew for each comparison."""

    low: int
    high: int
    prefix: Prefix


def _span(prefix: Prefix) -> _Span:
    return _Span(*bounds(prefix), prefix)


def _as_listed(apart: list[_Span]) -> list[Scalar]:
    """Return sorted prefixes that are apart as nft lists them: in a set of intervals, those that touch are one."""
    if len(apart) == 1 or all(each.low == each.high for each in apart):
        return [simplest(each.prefix) for each in apart]
    runs: list[list[_Span]] = []
    for each in apart:
        if runs and runs[-1][-1].high + 1 == each.low:
            runs[-1].append(each)
        else:
            runs.append([each])
    return [simplest(run[0].prefix) if len(run) == 1 else _one_interval(run[0], run[-1]) for run in runs]


def _one_interval(first: _Span, last: _Span) -> Scalar:
    low, high = first.prefix.network_address, last.prefix.broadcast_address
    whole = ip_network((low, low.max_prefixlen - (first.low ^ last.high).bit_length()), strict=False)
    return simplest(whole) if (whole.network_address, whole.broadcast_address) == (low, high) else Range(low, high)

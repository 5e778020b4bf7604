"""Long lists of prefixes: found by their first bits, then in a set of those that begin so.

The kernel keeps a set of intervals as a tree. With 100,000 prefixes in one, a packet to one of them cost 10 to 15 % more than with
ten; with a tree for each first byte it costs the same (`python -m benchmarks growth`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from failshut.lower.rules import address_matches, rule
from failshut.model.ruleset import AnyMap, Chain, Jump, Payload, Rule, VerdictMap, masked
from failshut.model.units import Address, Prefix, bounds

# From so many on, in one family.
_MANY = 64


@dataclass(frozen=True, slots=True)
class Found:
    """The rules that send what is bound for a prefix to a chain, and the chains that they need."""

    rules: tuple[Rule, ...]
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class _Family:
    """A version of IP: `bits` are the first bits that lists are split by, `name` writes them into a chain's name."""

    field: Payload
    address: type[IPv4Address | IPv6Address]
    width: int
    bits: int
    name: str

    def beginning(self, prefix: Prefix) -> int:
        return bounds(prefix)[0] >> (self.width - self.bits)

    def from_bits(self, first: int) -> Address:
        return self.address(first << (self.width - self.bits))


# By the first byte; all of IPv6 that is in use begins with the same few.
_FAMILIES = {
    4: _Family(Payload("ip", "daddr"), IPv4Address, 32, 8, "4-{}"),
    6: _Family(Payload("ip6", "daddr"), IPv6Address, 128, 24, "6-{:06x}"),
}


def bound_for(prefixes: Iterable[Prefix], chain: str, comment: str) -> Found:
    """Return what sends every packet that is bound for one of the prefixes to `chain`."""
    rules: list[Rule] = []
    chains: list[Chain] = []
    every = tuple(prefixes)
    for version, family in _FAMILIES.items():
        own = [each for each in every if each.version == version]
        few = own if len(own) < _MANY else [each for each in own if each.prefixlen < family.bits]
        rules += _directly(few, chain, comment)
        groups: dict[int, list[Prefix]] = {}
        for each in own if few is not own else ():
            if each.prefixlen >= family.bits:
                groups.setdefault(family.beginning(each), []).append(each)
        if not groups:
            continue
        names = {first: f"{chain}{family.name.format(first)}" for first in sorted(groups)}
        ways = AnyMap(tuple((family.from_bits(first), Jump(name)) for first, name in names.items()))
        rules.append(rule(comment, VerdictMap(masked(family.field, int(family.from_bits((1 << family.bits) - 1))), ways)))
        chains += [Chain(name, tuple(_directly(groups[first], chain, comment))) for first, name in names.items()]
    return Found(tuple(rules), tuple(chains))


def _directly(prefixes: list[Prefix], chain: str, comment: str) -> Iterator[Rule]:
    for address in address_matches("daddr", prefixes):
        yield rule(comment, address, Jump(chain))

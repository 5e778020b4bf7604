"""What every check may look at, and what several of them ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network

from failshut.config.addresses import is_wider
from failshut.config.declaration import Declaration, Sources
from failshut.config.locate import Path
from failshut.config.tunnels import Built
from failshut.model.finding import Code, Finding
from failshut.model.units import Prefix, bounds

# Multicast and loopback by IP version.
_NOT_ROUTED = {
    4: (bounds(ip_network("224.0.0.0/4")), bounds(ip_network("127.0.0.0/8"))),
    6: (bounds(ip_network("ff00::/8")), bounds(ip_network("::1/128"))),
}
# Wider than any network that one cable or one radio reaches, or that anyone can call an exception.
WIDEST = (8, 16)


@dataclass(frozen=True)
class View:
    """Everything a check may look at."""

    declaration: Declaration
    sources: Sources
    tunnels: list[Built]

    @cached_property
    def sites(self) -> frozenset[tuple[int, int]]:
        """Every endpoint and every address of a tunnel, as its version and its number: each of 100,000 prefixes is told by them."""
        endpoints = (each.value.address for built in self.tunnels for each in built.endpoints)
        own = (each.value.ip for built in self.tunnels for each in built.addresses)
        return frozenset((each.version, int(each)) for each in (*endpoints, *own))

    def lan(self) -> Iterator[tuple[Path, Prefix]]:
        """Yield the LAN's prefixes with their paths, those on the link first."""
        lan = self.declaration.document.allow.lan
        for key in ("prefixes", "routed"):
            for index, each in enumerate(getattr(lan, key) if lan else ()):
                yield ("allow", "lan", key, index), each


def overlap(one: Prefix, other: Prefix) -> bool:
    """Return whether two prefixes share an address."""
    if one.version != other.version:
        return False
    # As numbers: `overlaps` makes three addresses of each, which 100,000 prefixes wait for.
    (low, high), (lowest, highest) = bounds(one), bounds(other)
    return low <= highest and lowest <= high


def not_routed(prefix: Prefix) -> bool:
    """Return whether all of `prefix` is multicast or loopback."""
    low, high = bounds(prefix)
    return any(first <= low and high <= last for first, last in _NOT_ROUTED[prefix.version])


def beside_the_tunnels(view: View, at: Path, prefix: Prefix, what: str) -> Iterator[Finding]:
    """Refuse a prefix that opens the way to an endpoint, or to a tunnel's own address, for every program.

    `what` names it in the message: "the LAN prefix". One that is too wide has been refused already.
    """
    if is_wider(prefix, *WIDEST):
        return
    version, (low, high) = prefix.version, bounds(prefix)
    if not any(each == version and low <= number <= high for each, number in view.sites):
        return
    for built in view.tunnels:
        for endpoint in built.endpoints:
            if endpoint.value.address in prefix:
                message = f"{what} {prefix} covers {built.name}'s endpoint {endpoint.value} ({endpoint.where})"
                remedy = "any program could then talk to it in the clear: name prefixes around it; the handshake needs none"
                yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy)
        for address in built.addresses:
            if address.value.ip in prefix:
                message = f"{what} {prefix} covers {built.name}'s own address {address.value.ip} ({address.where})"
                remedy = "what is meant for the tunnel would leave beside it: name narrower prefixes"
                yield view.declaration.finding(at, Code.CONTRADICTION, message, remedy)

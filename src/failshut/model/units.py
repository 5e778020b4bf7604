"""Values that carry their own unit, and refuse to exist when they are impossible.

A `Mark` is never just any `int`, an `InterfaceName` never any `str`: the type checker keeps them apart and the
constructor keeps out what the kernel would refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from typing import Self

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface

# As many as a long list has. They are kept as long as the program runs.
_KNOWN = 1 << 17
# As `ipaddress` takes them: no leading zeros.
_OCTETS = {str(number): number for number in range(256)}
_LENGTHS = {str(number): number for number in range(33)}


class _Known4(IPv4Network):
    """A prefix that has at hand what a long list asks of each a dozen times; else it is what it is derived from."""

    __slots__ = ("bounds", "text")
    version = 4
    max_prefixlen = 32

    def __init__(self, address: object, strict: bool = True) -> None:
        self.text = ""
        super().__init__(address, strict)
        low = int(self.network_address)
        self.bounds = (low, low | (1 << 32 - self.prefixlen) - 1)

    def __str__(self) -> str:
        self.text = self.text or super().__str__()
        return self.text

    def __repr__(self) -> str:
        return f"IPv4Network('{self}')"

    def __hash__(self) -> int:
        # Of equal prefixes the same: `ipaddress` makes it of the address and the mask, and bits that are in both are in neither.
        return hash(self.bounds[1] ^ 0xFFFFFFFF)

    def __reduce__(self) -> tuple[object, ...]:
        return prefix_of, (str(self),)


@lru_cache(_KNOWN)
def prefix_of(text: str) -> Prefix:
    """Return the prefix of a text, for one text always the same: the policy and all that is made of it and read back have it.

    Raises ValueError as `ipaddress` does.
    """
    address, _, length = text.partition("/")
    try:
        one, two, three, four = address.split(".")
        low = _OCTETS[one] << 24 | _OCTETS[two] << 16 | _OCTETS[three] << 8 | _OCTETS[four]
        found = _Known4((low, _LENGTHS[length]))
    except (KeyError, ValueError):
        return ip_network(text)
    found.text = text
    return found


def bounds(prefix: Prefix) -> tuple[int, int]:
    """Return the first and the last address of a prefix as numbers."""
    if type(prefix) is _Known4:
        return prefix.bounds
    low = int(prefix.network_address)
    return low, low | ((1 << (prefix.max_prefixlen - prefix.prefixlen)) - 1)


# The IANA names of the protocols that rules name. nft takes them from /etc/protocols, and lists numbers on a machine without that
# file (Debian without netbase).
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}

# IFNAMSIZ is 16 with the terminating NUL (linux/if.h); the kernel's dev_valid_name() refuses '/', ':' and white space. We also
# refuse '"', '*' and '\\': nft has no way to quote the first, and a trailing '*' would open every interface of that prefix.
_INTERFACE = re.compile(r"[^\s/:\"*\\\x00-\x1f\x7f]{1,15}")


class Mark(int):
    """A 32-bit packet or connection mark (`fwmark`, `ct mark`). Raises ValueError outside 0..0xffffffff."""

    def __new__(cls, value: int) -> Self:
        """Take a number of 32 bits."""
        if not 0 <= value <= 0xFFFFFFFF:
            raise ValueError(f"a mark has 32 bits: {value:#x} does not fit")
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return f"{int(self):#010x}"

    def __repr__(self) -> str:
        return f"Mark({self})"


class Port(int):
    """A TCP or UDP port, 1..65535. Raises ValueError outside of it."""

    def __new__(cls, value: int) -> Self:
        """Take a number of 16 bits, without 0."""
        if not 1 <= value <= 65535:
            raise ValueError(f"a port lies between 1 and 65535: {value} does not")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"Port({int(self)})"


class InterfaceName(str):
    """A network interface's name: 1 to 15 bytes, no white space, '/', ':', '"', '*' or backslash. Raises ValueError otherwise."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Take a name that the kernel and nft both can say."""
        if not _INTERFACE.fullmatch(value) or value in (".", "..") or len(value.encode()) > 15:
            raise ValueError(f"{value!r} can't be an interface's name (1 to 15 bytes; no space, quote, '/', ':' or '*')")
        return super().__new__(cls, value)


class Protocol(StrEnum):
    """A transport protocol that has ports."""

    TCP = "tcp"
    UDP = "udp"

    @property
    def number(self) -> int:
        """The IANA protocol number."""
        return {Protocol.TCP: 6, Protocol.UDP: 17}[self]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tunnel's peer is reached over the underlay."""

    address: Address
    port: Port
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        scheme = "" if self.protocol is Protocol.UDP else f"{self.protocol}://"
        return f"{scheme}{host}:{int(self.port)}"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where something listens: at an address and a port, 0 for any free one, or, with a `path`, at a socket in the file system."""

    address: Address | None = None
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine reaches it."""
        return self.address is None or self.address.is_loopback

    def __str__(self) -> str:
        if self.address is None:
            return f"unix:{self.path}"
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint whose host is still a name; the resolver turns it into one `Endpoint` per address."""

    host: str
    port: Port
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        scheme = "" if self.protocol is Protocol.UDP else f"{self.protocol}://"
        return f"{scheme}{self.host}:{int(self.port)}"

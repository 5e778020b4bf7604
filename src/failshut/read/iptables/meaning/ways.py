"""What a part of a rule becomes, and the values that its options have.

A match becomes *ways*: each a tuple of statements, no two of which a packet can go. Most have one. `! --uid-owner 0` has two
(another user's socket, or no socket at all), because nftables' comparisons never hold for what a packet lacks, and iptables' do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from failshut.model.finding import Code
from failshut.model.ruleset import (
    AnySet,
    Expression,
    Left,
    Match,
    Op,
    Payload,
    Range,
    Right,
    Scalar,
    Statement,
    Tuple,
    UnknownMatch,
    masked,
)
from failshut.model.units import Address, Prefix
from failshut.read.iptables.ipset import IpSets
from failshut.read.iptables.names import number, port_number
from failshut.read.iptables.tree import Option, Part

Way = tuple[Statement, ...]
Ways = tuple[Way, ...]
ALWAYS: Ways = ((),)
NEVER: Ways = ()

ALL_BITS = 0xFFFFFFFF
FULL_MASK = {4: 0xFFFFFFFF, 6: (1 << 128) - 1}


class WrongError(ValueError):
    """A value that iptables refuses."""

    def __init__(self, message: str, option: Option, code: Code = Code.RULES_BAD_VALUE, help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.code, self.option, self.help = code, option, help


class UnsureError(ValueError):
    """A value whose meaning is not in the text: a name that is looked up when the rules are loaded."""

    def __init__(self, message: str, option: Option) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a rule when one of its parts is read: the IP version, and the protocol that `-p` demands.

    `destination` says whether a packet's target address is translated where the rule stands (PREROUTING, OUTPUT), or its source;
    `sets` are the machine's ipsets, the same for all of its rules.
    """

    version: int
    protocol: int | None = None
    destination: bool = True
    sets: IpSets = field(default=IpSets(), compare=False)

    @property
    def ip(self) -> str:
        """The IP header's name in nft."""
        return "ip" if self.version == 4 else "ip6"


def both(*parts: Ways) -> Ways:
    """Return the ways of all parts at once."""
    ways = ALWAYS
    for part in parts:
        ways = tuple((*before, *after) for before in ways for after in part)
    return ways


def compared(left: Left, right: Right, *, negated: bool = False) -> Ways:
    """Return one comparison."""
    return ((Match(left, right, Op.NE if negated else Op.EQ),),)


def unsure(text: str) -> Ways:
    """Return a match that may hold or not."""
    return ((UnknownMatch(text),),)


def bits(left: Expression, value: int, mask: int, full: int, *, negated: bool) -> Ways:
    """Return `left & mask == value`, which never holds when `value` has bits that `mask` lacks."""
    if value & ~mask:
        # The field must still be there for the negation to hold.
        return bits(left, 0, 0, full, negated=False) if negated else NEVER
    if mask == full and not isinstance(left, int):
        return compared(left, value, negated=negated)
    return compared(masked(left, mask), value, negated=negated)


def named(word: str, names: Iterable[str]) -> str:
    """Return the first name that a word is or begins, whatever its case, as iptables takes most of its words; empty for none."""
    lower = word.lower()
    return next((each for each in names if lower and each.lower().startswith(lower)), "")


def any_of(elements: Iterable[Scalar | Tuple]) -> Right:
    """Return a set, or its only element."""
    unique = tuple(dict.fromkeys(elements))
    return unique[0] if len(unique) == 1 else AnySet(unique)


def option(part: Part, name: str) -> Option | None:
    """Return that option of a part, or None."""
    return next((each for each in part.options if each.name == name), None)


def value(given: Option, largest: int) -> int:
    """Return an option's number. Raises WrongError."""
    found = number(given.values[0], largest)
    if found is None:
        raise WrongError(f"{given.values[0]!r} is no number from 0 to {largest}", given)
    return found


def span(given: Option, largest: int) -> int | Range:
    """Return an option's number or range `low:high`, either end of which may be left out. Raises WrongError."""
    low, colon, high = given.values[0].partition(":")
    first = number(low, largest) if low or not colon else 0
    last = number(high, largest) if high else (largest if colon else first)
    if first is None or last is None or first > last:
        raise WrongError(f"{given.values[0]!r} is no range between 0 and {largest}", given)
    return first if first == last else Range(first, last)


def ports(text: str, given: Option) -> int | Range:
    """Return a port or `low:high`, either end of which may be left out. Raises WrongError."""
    low, colon, high = text.partition(":")
    first = _port(low, given) if low or not colon else 0
    last = _port(high, given) if high else (65535 if colon else first)
    if first > last:
        raise WrongError(f"the range of ports {text!r} ends before it begins", given)
    return first if first == last else Range(first, last)


def _port(text: str, given: Option) -> int:
    found = port_number(text)
    if found is not None:
        return found
    if text.isalpha() or (text[:1].isalpha() and text.replace("-", "").replace("_", "").isalnum()):
        raise UnsureError(f"the service {text!r} is in no list here: write its number", given)
    raise WrongError(f"{text!r} is no port", given)


def value_and_mask(given: Option, full: int = ALL_BITS) -> tuple[int, int]:
    """Return `value[/mask]` of a mark, and `full` as the mask when none is said. Raises WrongError."""
    first, slash, second = given.values[0].partition("/")
    found, mask = number(first, full), number(second, full) if slash else full
    if found is None or mask is None:
        raise WrongError(f"{given.values[0]!r} is no value with a mask", given)
    return found, mask


def address(text: str, version: int, given: Option) -> Address:
    """Return an address. Raises WrongError."""
    if "%" in text:
        raise WrongError(f"{text!r} has a scope, which no rule can ask for", given, help="ask for the interface by `-i` or `-o`")
    try:
        return IPv4Address(text) if version == 4 else IPv6Address(text)
    except AddressValueError:
        _other_version(text, version, given)
        if ":" not in text and any(each.isalpha() for each in text):
            message = f"{text!r} is a name, and DNS decides what it means when the rules are loaded: write its addresses"
            raise UnsureError(message, given) from None
        raise WrongError(f"{text!r} is no address", given) from None


def _other_version(text: str, version: int, given: Option) -> None:
    try:
        (IPv6Address if version == 4 else IPv4Address)(text)
    except AddressValueError:
        return
    message = f"{text} is an IPv{10 - version} address among rules for IPv{version}"
    raise WrongError(message, given, Code.RULES_OTHER_FAMILY, "the other program's file is meant, or both were mixed") from None


def network(text: str, version: int, given: Option) -> tuple[int, int]:
    """Return `address[/length|/mask]` as (address, mask), both as numbers. Raises WrongError."""
    host, slash, mask = text.partition("/")
    if version == 4 and slash and host.count(".") < 3 and host.replace(".", "").isdecimal():
        # `10/8`: what is left out is zero.
        host = ".".join((*host.split("."), "0", "0", "0")[:4])
    base = int(address(host, version, given))
    return base, _mask(mask, version, given) if slash else FULL_MASK[version]


def _mask(text: str, version: int, given: Option) -> int:
    width = 32 if version == 4 else 128
    if (length := number(text, width)) is not None:
        return FULL_MASK[version] ^ ((1 << (width - length)) - 1)
    try:
        return int(IPv4Address(text) if version == 4 else IPv6Address(text))
    except AddressValueError:
        raise WrongError(f"{text!r} is no mask of IPv{version}", given) from None


def in_network(left: Payload | Left, found: tuple[int, int], version: int, *, negated: bool) -> Ways:
    """Return whether an address lies in a network, whose mask may have holes."""
    base, mask = found
    base &= mask
    if not mask:
        return NEVER if negated else ALWAYS
    hosts = FULL_MASK[version] ^ mask
    if hosts & (hosts + 1):
        return compared(masked(left, mask), base, negated=negated)
    if not hosts:
        return compared(left, IPv4Address(base) if version == 4 else IPv6Address(base), negated=negated)
    return compared(left, prefix(base, hosts.bit_length(), version), negated=negated)


def prefix(base: int, host_bits: int, version: int) -> Prefix:
    """Return the prefix that begins at `base`."""
    return IPv4Network((base, 32 - host_bits)) if version == 4 else IPv6Network((base, 128 - host_bits))

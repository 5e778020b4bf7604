"""Words and numbers of a given type → the model's constants: one meaning, whatever format they were written in."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from failshut.model.ruleset import AnySet, Element, Range, Scalar
from failshut.model.symbols import FLAG_TYPES, INTEGER, WIDTHS, WORDS, word_of
from failshut.model.units import Address, Prefix, bounds, prefix_of
from failshut.read.names import PROTOCOLS, SERVICES

# An address, a prefix or a range, in one word.
_PLAIN = re.compile(r"[0-9a-fA-F.:/-]+")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_TIME = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_SECONDS = (604800, 86400, 3600, 60, 1)
# Kept as they are written: names and paths that only the machine itself can turn into numbers, or texts.
_TEXT_TYPES = frozenset({"ifname", "iface_index", "string", "cgroupsv2", "time", "hour", "realm", "devgroup"})
_ANY_NAME = frozenset({"uid", "gid", "ct_label"})
# As useradd(8) takes them.
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")


class BadValueError(ValueError):
    """A word that is no constant of its type: nft would refuse it."""


class UnknowableError(ValueError):
    """A word whose value only the machine itself or a name server knows."""


def constant(text: str, type_: str) -> Scalar:
    """Return the constant that a word stands for. Raises `BadValueError` or `UnknowableError`."""
    reader = _ADDRESSES.get(type_)
    return reader(text) if reader else _of_type(text, type_)


@lru_cache(512)
def addresses(listed: str, type_: str) -> tuple[Scalar, ...] | None:
    """Return the addresses of a list, without repeats, each behind `, `; None where not all of it is plain addresses."""
    words = listed.split(", ")
    if type_ not in _ADDRESSES or not all(map(_PLAIN.fullmatch, words)):
        return None
    try:
        return tuple(dict.fromkeys(map(_ADDRESSES[type_], words)))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _of_type(text: str, type_: str) -> Scalar:
    if type_ == "ether_addr":
        return _mac(text)
    if type_ == "time" and _TIME.fullmatch(text):
        return seconds(text)
    if type_ == "classid":
        return _traffic_class(text)
    if type_ in _TEXT_TYPES:
        return number(text) if text.isdecimal() and type_ != "ifname" else text
    return _numeric(text, type_)


def _traffic_class(text: str) -> Scalar:
    """Read a class of tc as the number that it is: `1:a0`, of two hexadecimal halves, or a plain one (nft, src/meta.c)."""
    if text in _CLASSES:
        return _CLASSES[text]
    major, colon, minor = text.partition(":")
    if not colon:
        return number(text)
    if not all(re.fullmatch(r"[0-9A-Fa-f]{0,4}", each) for each in (major, minor)):
        raise BadValueError(f"{text!r} is no class of traffic")
    return int(major or "0", 16) << 16 | int(minor or "0", 16)


_CLASSES = {"none": 0, "root": 0xFFFFFFFF}


def _numeric(text: str, type_: str) -> Scalar:
    """Read a word or a number, or a range of either."""
    value = _single(text, type_)
    if value is not None:
        return word_of(_fitting(value, type_), type_)
    base, slash, bits = text.partition("/")
    if slash and type_ == "mark" and bits.isdecimal() and int(bits) <= 32:
        first, size = number(base), 1 << 32 - int(bits)
        if first & (size - 1):
            raise BadValueError(f"no mark is {text}: it has bits beyond its first {bits}")
        return _block(first, size)
    for cut in (each.start() for each in re.finditer("-", text)):
        low, high = _single(text[:cut], type_), _single(text[cut + 1 :], type_)
        if low is not None and high is not None:
            return span(low, _fitting(high, type_), type_)
    if type_ in ("uid", "gid") and ACCOUNT.fullmatch(text):
        return text
    if type_ in _ANY_NAME:
        raise UnknowableError(f"which {type_} is {text!r} is known on the machine only")
    raise BadValueError(f"{text!r} is no {type_}")


def _single(text: str, type_: str) -> int | None:
    if _NUMBER.fullmatch(text):
        return number(text)
    table = {"inet_service": SERVICES, "inet_proto": PROTOCOLS}.get(type_, WORDS.get(type_, {}))
    if text == "root" and type_ in _ANY_NAME:
        return 0
    return table.get(text)


def _fitting(value: int, type_: str) -> int:
    width = WIDTHS.get(type_, 0)
    if width and value >> width:
        raise BadValueError(f"{value} does not fit into the {width} bits of {type_}")
    return value


def number(text: str) -> int:
    """Return a number as nft writes it: decimal, hexadecimal with 0x, octal with 0. Raises `BadValueError`."""
    if not _NUMBER.fullmatch(text):
        raise BadValueError(f"{text!r} is no number")
    try:
        return int(text, 8 if text.startswith("0") and text.isdecimal() else 0)
    except ValueError as error:
        raise BadValueError(f"{text[:40]!r} is no number") from error


def _block(low: int, size: int) -> Scalar:
    return low if size == 1 else Range(low, low + size - 1)


def span(low: int, high: int, type_: str = INTEGER) -> Scalar:
    """Return the range between two numbers, which may be one number. Raises `BadValueError` when it is upside down."""
    if low > high:
        raise BadValueError(f"the range {low}-{high} is upside down")
    return Range(low, high) if low < high else word_of(low, type_)


def _address_reader(address: type[Address], network: type[Prefix], type_: str) -> Callable[[str], Scalar]:
    def read(text: str) -> Scalar:
        try:
            if "/" in text:
                return _simplest(_network(text, network))
            if "-" in text:
                low, _, high = text.partition("-")
                return address_span(address(low), address(high))
            return address(number(text)) if _NUMBER.fullmatch(text) else address(text)
        except ValueError as error:
            if re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9.-]+", text):
                raise UnknowableError(f"the address of {text!r} is known to a name server only") from error
            raise BadValueError(f"{text!r} is no {type_}") from error

    return read


def _network(text: str, network: type[Prefix]) -> Prefix:
    # Nearly all that is ever read, and the one in the policy's own words.
    if (":" in text) is (network is IPv6Network):
        with contextlib.suppress(ValueError):
            return prefix_of(text)
    return network(text, strict=False)


def _simplest(prefix: Prefix) -> Address | Prefix:
    low, high = bounds(prefix)
    return prefix.network_address if low == high else prefix


def address_span(low: Address, high: Address) -> Scalar:
    """Return the addresses between two as nft lists them: a prefix where they are one. Raises `BadValueError`."""
    first, last = int(low), int(high)
    if low.version != high.version or first > last:
        raise BadValueError(f"the range {low}-{high} is upside down")
    size = last - first + 1
    if size & (size - 1) or first & (size - 1):
        return Range(low, high)
    return _simplest(ip_network((low, low.max_prefixlen - size.bit_length() + 1)))


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise BadValueError(f"{text!r} is no ether_addr")
    return ":".join(part.rjust(2, "0") for part in text.lower().split(":"))


_ADDRESSES: dict[str, Callable[[str], Scalar]] = {
    "ipv4_addr": _address_reader(IPv4Address, IPv4Network, "ipv4_addr"),
    "ipv6_addr": _address_reader(IPv6Address, IPv6Network, "ipv6_addr"),
}


def seconds(text: str) -> int:
    """Return a time such as `1h30m` in seconds; a bare number is seconds. Raises `BadValueError`."""
    if text.isdecimal():
        return number(text)
    found = _TIME.fullmatch(text)
    if not found or not text:
        raise BadValueError(f"{text!r} is no time")
    return sum(int(part or 0) * unit for part, unit in zip(found.groups()[:5], _SECONDS, strict=True))


def any_of(elements: Iterable[Element]) -> Element | AnySet:
    """Return an anonymous set without repeats, or its element when it has only one. Raises `BadValueError` for an empty one."""
    unique = tuple(dict.fromkeys(elements))
    if not unique:
        raise BadValueError("a set without elements")
    return unique[0] if len(unique) == 1 else AnySet(unique)


def bits_of(words: Iterable[Scalar], type_: str) -> int:
    """Return several words of a flag type as one number. Raises `BadValueError`."""
    total = 0
    for each in words:
        value = as_number(each, type_)
        total |= value
    return total


def as_number(value: Scalar, type_: str) -> int:
    """Return a constant as a number, for arithmetic. Raises `BadValueError` when it has none."""
    if isinstance(value, int):
        return value
    if isinstance(value, IPv4Address | IPv6Address):
        return int(value)
    found = WORDS.get(type_, {}).get(value) if isinstance(value, str) else None
    if found is None:
        raise BadValueError(f"{value} is no number")
    return found


def tests_bits(type_: str) -> bool:
    """Whether a comparison without an operator is a test of bits."""
    return type_ in FLAG_TYPES

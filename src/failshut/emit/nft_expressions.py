"""Expressions and constants as nft's text, and what nft can't write at all."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import assert_never

from failshut.model.ruleset import (
    AnyMap,
    AnySet,
    Binary,
    BitOp,
    CatchAll,
    Concat,
    Ct,
    Element,
    Expression,
    Exthdr,
    Fib,
    HeaderOption,
    Jump,
    Lookup,
    Meta,
    Opaque,
    Payload,
    Range,
    RawPayload,
    Right,
    Rt,
    Scalar,
    SetRef,
    Socket,
    Tuple,
    Verdict,
)
from failshut.model.same import once

# nft's tokens that its grammar does not take as a chain's name (measured with nft 1.0.6; `in`, `out`, `input` pass).
RESERVED = frozenset({"fwd", "log", "mark", "meta", "map", "set", "table", "chain", "rule", "limit", "counter", "drop", "accept"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./\\-]*")
# nft has no escape inside a quoted string.
_QUOTABLE = re.compile(r'[^"\\\x00-\x1f\x7f]+')
# NFTNL_UDATA_COMMENT_MAXLEN and NF_LOG_PREFIXLEN - 1.
_MAX_QUOTED = {"comment": 128, "prefix": 127}
_NAME_KEYS = ("iifname", "oifname", "iif", "oif")
_QUOTED_KEYS = (*_NAME_KEYS, "iifgroup", "oifgroup", "ibrname", "obrname")
# The tighter, the earlier; nft takes parentheses where this order is not meant.
_PRECEDENCE = {BitOp.LEFT: 0, BitOp.RIGHT: 0, BitOp.AND: 1, BitOp.XOR: 2, BitOp.OR: 3}


class UnsupportedError(ValueError):
    """The ruleset holds something that nft's text can't say. Never dropped, never approximated."""


def expression_text(value: Expression) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind is the clearest table there is
    """Return an expression."""
    match value:
        case int():
            return str(value)
        case Meta():
            # nft lists these without their family's word.
            return value.key if value.key in _NAME_KEYS else f"meta {value.key}"
        case Payload():
            return f"{value.protocol} {value.field}"
        case RawPayload():
            return f"@{value.base},{value.offset},{value.length}"
        case Ct():
            return f"ct {value.direction} {value.key}" if value.direction else f"ct {value.key}"
        case Exthdr():
            return f"{value.name} {value.field}" if value.field else f"exthdr {value.name}"
        case HeaderOption():
            return f"{value.protocol} option {value.name} {value.field}".rstrip()
        case Socket():
            return f"socket {value.key} level {value.level}" if value.level else f"socket {value.key}"
        case Rt():
            return f"rt {value.family} {value.key}" if value.family else f"rt {value.key}"
        case Fib():
            return f"fib {' . '.join(value.flags)} {value.result}"
        case Binary():
            return _binary_text(value)
        case Concat():
            return " . ".join(expression_text(part) for part in value.parts)
        case Lookup():
            return f"{expression_text(value.key)} map {map_text(value.map, value.key)}"
        case Opaque():
            raise UnsupportedError(f"what was read and not understood can't be written: {value.text}")
        case _:
            assert_never(value)


def _binary_text(value: Binary) -> str:
    own = _PRECEDENCE[value.op]
    sides = []
    for side, looser in ((value.left, own), (value.right, own - 1)):
        text = _bits_text(side, value.left) if isinstance(side, int) and own else expression_text(side)
        sides.append(f"({text})" if isinstance(side, Binary) and _PRECEDENCE[side.op] > looser else text)
    return f"{sides[0]} {value.op} {sides[1]}"


def _bits_text(bits: int, of: Expression | int) -> str:
    """Return a mask, or the value under a mark's arithmetic: a pattern of bits. nft takes no number for an address' mask."""
    match of:
        case Payload(protocol="ip", field="saddr" | "daddr"):
            return str(IPv4Address(bits))
        case Payload(protocol="ip6", field="saddr" | "daddr"):
            return str(IPv6Address(bits))
    return f"{bits:#010x}"


def right_text(right: Right, left: Expression) -> str:
    """Return what `left` is compared with."""
    match right:
        case AnySet():
            return "{ " + _elements_text(right.elements, left) + " }"
        case SetRef():
            return f"@{name_text(right.name)}"
        case _:
            return element_text(right, left)


@once
def _elements_text(elements: tuple[Element, ...], left: Expression) -> str:
    return ", ".join(element_text(each, left) for each in elements)


def element_text(element: Element, left: Expression | None) -> str:
    """Return an element of a set with the key `left`; None is a named set, whose key is types only."""
    if isinstance(element, CatchAll):
        return "*"
    if not isinstance(element, Tuple):
        return scalar_text(element, left)
    parts: tuple[Expression | None, ...] = left.parts if isinstance(left, Concat) else (None,) * len(element.parts)
    if len(parts) != len(element.parts) or (left is not None and not isinstance(left, Concat)):
        raise UnsupportedError(f"{element} does not fit its key")
    return " . ".join(scalar_text(value, part) for value, part in zip(element.parts, parts, strict=True))


def map_text(map_: AnyMap | SetRef, key: Expression) -> str:
    """Return the map behind `map` or `vmap`."""
    if isinstance(map_, SetRef):
        return f"@{name_text(map_.name)}"
    return "{ " + ", ".join(f"{element_text(each, key)} : {data_text(data)}" for each, data in map_.elements) + " }"


def data_text(data: Scalar | Tuple | Verdict | Jump) -> str:
    """Return what a map holds for a key."""
    match data:
        case Verdict():
            return data.value
        case Jump():
            return f"{'goto' if data.goto else 'jump'} {name_text(data.target)}"
        case _:
            return element_text(data, None)


def scalar_text(value: Scalar, left: Expression | None) -> str:
    """Return a constant as the other side `left` wants it: bit patterns in hex, names in quotes."""
    match value:
        case int():
            return _number(value, left)
        case str():
            return _string(value, left)
        case IPv4Address() | IPv6Address() | IPv4Network() | IPv6Network():
            return str(value)
        case Range():
            return f"{scalar_text(value.low, left)}-{scalar_text(value.high, left)}"
        case _:
            assert_never(value)


def _number(value: int, left: Expression | None) -> str:
    if is_mark(left):
        return f"{value:#010x}"
    return f"{value:#06x}" if left == Payload("ether", "type") else str(value)


def _string(value: str, left: Expression | None) -> str:
    if isinstance(left, Meta) and left.key in _QUOTED_KEYS:
        return f'"{quotable(value)}"'
    return word(value)


def is_mark(left: Expression | None) -> bool:
    """Whether constants beside `left` are bit patterns."""
    return isinstance(left, Binary) or (isinstance(left, Meta | Ct | Socket) and left.key == "mark")


def name_text(name: str) -> str:
    """Return the name of a table, chain, set, ... Raises `UnsupportedError` for one that nft's grammar can't take."""
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise UnsupportedError(f"nft can't take {name!r} as a name")
    return name


def word(text: str) -> str:
    """Return a bare word."""
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", text):
        raise UnsupportedError(f"nft can't take {text!r} as a value")
    return text


def quotable(text: str, kind: str = "") -> str:
    """Return what may stand between quotes."""
    if not _QUOTABLE.fullmatch(text) or len(text.encode()) > _MAX_QUOTED.get(kind, 128):
        raise UnsupportedError(f"nft can't quote {text!r}")
    return text

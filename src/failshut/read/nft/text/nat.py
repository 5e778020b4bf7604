"""Statements that send a packet elsewhere: address translation, transparent proxies, copies."""

from __future__ import annotations

import re
from collections.abc import Callable

from failshut.model.ruleset import Duplicate, Expression, Forward, Nat, NatKind, Scalar, Tproxy
from failshut.read.nft.text.cursor import RULE_END, Cursor, NotUnderstoodError
from failshut.read.nft.text.expressions import KEYWORDS, expression
from failshut.read.nft.values import ANY_TYPE, value_of

_FLAGS = ("random", "fully-random", "persistent")
_FAMILIES = ("ip", "ip6")
_V4_WITH_PORT = re.compile(r"(\d+\.[0-9.]+(?:-[0-9.]+)?):(.*)")
_Value = Expression | Scalar


def translate(kind: str) -> Callable[[Cursor], Nat]:
    """Return the reader of `snat` or `dnat`."""

    def read(cursor: Cursor) -> Nat:
        family = cursor.take() if cursor.here in _FAMILIES and cursor.ahead() in ("to", "prefix", "addr", "interval") else ""
        flags = {"prefix"} if cursor.accept("prefix") else set()
        while cursor.here in ("addr", "port", ".", "interval"):
            cursor.at += 1
        cursor.accept("to")
        address, port = _target(cursor)
        return Nat(NatKind(kind), address, port, family, frozenset(flags | _flags(cursor)))

    return read


def masquerade(cursor: Cursor) -> Nat:
    """Read `masquerade to :1024-2048 random`."""
    port = _target(cursor)[1] if cursor.accept("to") else None
    return Nat(NatKind.MASQUERADE, port=port, flags=_flags(cursor))


def redirect(cursor: Cursor) -> Nat:
    """Read `redirect to :5353`."""
    address, port = _target(cursor) if cursor.accept("to") else (None, None)
    # The colon may be left out: there is only a port.
    return Nat(NatKind.REDIRECT, port=address if port is None else port, flags=_flags(cursor))


def tproxy(cursor: Cursor) -> Tproxy:
    """Read `tproxy ip to 127.0.0.1:50080`."""
    family = cursor.take() if cursor.here in _FAMILIES else ""
    cursor.expect("to")
    return Tproxy(family, *_target(cursor))


def duplicate(cursor: Cursor) -> Duplicate:
    """Read `dup to 192.0.2.1 device "eth0"`, or in a netdev table `dup to "eth0"`."""
    cursor.expect("to")
    first = _value(cursor)
    if cursor.accept("device"):
        return Duplicate(first, _value(cursor))
    return Duplicate(device=first) if isinstance(first, str) else Duplicate(first)


def forward(cursor: Cursor) -> Forward:
    """Read `fwd to "eth0"` or `fwd ip to 192.0.2.1 device "eth0"`."""
    family = cursor.take() if cursor.here in _FAMILIES else ""
    cursor.expect("to")
    first = _value(cursor)
    return Forward(_value(cursor), first, family) if cursor.accept("device") else Forward(first, family=family)


def _flags(cursor: Cursor) -> frozenset[str]:
    found: set[str] = set()
    while cursor.here in _FLAGS:
        found.add(cursor.take())
        cursor.accept(",")
    return frozenset(found)


def _target(cursor: Cursor) -> tuple[_Value | None, _Value | None]:
    """Read `address:port`, either part of which may be left out."""
    if cursor.accept("["):
        text = cursor.word()
        if cursor.accept("]"):
            return _as_written(text), _port(cursor)
        raise NotUnderstoodError("a bracket that is not closed")
    if cursor.here.startswith(":") and not cursor.here.startswith("::"):
        return None, _port(cursor)
    if cursor.here in KEYWORDS:
        return expression(cursor), _port(cursor)
    text = cursor.word()
    if split := _V4_WITH_PORT.fullmatch(text):
        return _as_written(split[1]), _as_written(split[2])
    if cursor.here == "-":
        cursor.at += 1
        text = f"{text}-{cursor.word()}"
    if cursor.here == "-[":
        raise NotUnderstoodError("a range of addresses in brackets")
    return _as_written(text), _port(cursor)


def _port(cursor: Cursor) -> _Value | None:
    if not cursor.here.startswith(":"):
        return None
    text = cursor.take()[1:]
    if text:
        return _as_written(text)
    return _value(cursor)


def _value(cursor: Cursor) -> _Value:
    if cursor.here in KEYWORDS:
        return expression(cursor)
    if cursor.here in RULE_END:
        raise NotUnderstoodError("it breaks off here")
    return _as_written(cursor.word())


def _as_written(text: str) -> Scalar:
    return value_of(text, ANY_TYPE)

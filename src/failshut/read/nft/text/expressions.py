"""Expressions of nft's grammar: what stands left of a comparison, behind `set`, and before `map` or `vmap`."""

from __future__ import annotations

import re
from collections.abc import Callable

from failshut.model.ruleset import (
    Binary,
    BitOp,
    Concat,
    Ct,
    Expression,
    Exthdr,
    Fib,
    HeaderOption,
    Left,
    Lookup,
    Meta,
    Opaque,
    Payload,
    RawPayload,
    Rt,
    Socket,
)
from failshut.model.symbols import CONNECTION, EXTENSIONS, META, PAYLOADS, describe
from failshut.read.constants import as_number, constant, number
from failshut.read.nft.text.cursor import RULE_END, Cursor, NotUnderstoodError
from failshut.read.nft.text.values import any_map
from failshut.read.nft.values import inner_type

# The looser, the earlier.
OPERATORS = {
    "|": (0, BitOp.OR), "or": (0, BitOp.OR), "^": (1, BitOp.XOR), "xor": (1, BitOp.XOR), "&": (2, BitOp.AND), "and": (2, BitOp.AND),
    "<<": (3, BitOp.LEFT), "lshift": (3, BitOp.LEFT), ">>": (3, BitOp.RIGHT), "rshift": (3, BitOp.RIGHT),
}  # fmt: skip
# These need no `meta` before them.
BARE_META = frozenset({
    "mark", "iif", "iifname", "iiftype", "iifgroup", "iifkind", "oif", "oifname", "oiftype", "oifgroup", "oifkind", "skuid",
    "skgid", "nftrace", "rtclassid", "ibriport", "obriport", "ibrname", "obrname", "pkttype", "cpu", "cgroup", "priority",
})  # fmt: skip
_META_ALIASES = {"ibridgename": "ibrname", "obridgename": "obrname", "secpath": "ipsec"}
_DIRECTIONS = ("original", "reply")
_CT_ALIASES = {"label": "label", "saddr": "ip saddr", "daddr": "ip daddr", "protonum": "protocol"}
# The same bytes under two names; nft lists the second.
_FIELD_ALIASES = {("arp", "saddr"): "saddr ip", ("arp", "daddr"): "daddr ip", ("vlan", "cfi"): "dei"}
_RAW = re.compile(r"@(ll|nh|th|ih),(\d+),(\d+)")


def expression(cursor: Cursor) -> Expression:
    """Read a concatenation of arithmetic; behind it may follow a map that it is looked up in."""
    parts = [arithmetic(cursor)]
    while cursor.accept("."):
        parts.append(arithmetic(cursor))
    whole = parts[0] if len(parts) == 1 else Concat(tuple(parts))
    if cursor.here == "map" and not isinstance(whole, int):
        cursor.at += 1
        return Lookup(whole, any_map(cursor, whole))
    return whole


def left_side(cursor: Cursor) -> Left:
    """Read an expression that is no bare number."""
    found = expression(cursor)
    if isinstance(found, int):
        raise NotUnderstoodError(f"the number {found} where a field is due")
    return found


def arithmetic(cursor: Cursor, level: int = 0, type_: str = "") -> Expression:
    """Read operators of a level and tighter ones. `type_` is that of the other operand: its words are numbers here."""
    left = _primary(cursor, type_)
    while (found := OPERATORS.get(cursor.here)) and found[0] >= level:
        cursor.at += 1
        right = arithmetic(cursor, found[0] + 1, type_ or inner_type(left))
        left = _folded(found[1], left, right)
    return left


def _folded(operator: BitOp, left: Expression, right: Expression) -> Expression:
    if not isinstance(left, int) or not isinstance(right, int):
        return Binary(operator, left, right)
    match operator:
        case BitOp.AND:
            return left & right
        case BitOp.OR:
            return left | right
        case BitOp.XOR:
            return left ^ right
        case BitOp.LEFT if right < 128:
            return left << right
        case BitOp.RIGHT:
            return left >> right
    raise NotUnderstoodError(f"a shift by {right} bits")


# nft lists them so.
_PORTS_BY_PLACE = {RawPayload("th", 0, 16): Payload("th", "sport"), RawPayload("th", 16, 16): Payload("th", "dport")}


def _primary(cursor: Cursor, type_: str) -> Expression:
    text = cursor.take()
    if text == "(":
        inner = arithmetic(cursor, 0, type_)
        cursor.expect(")")
        return inner
    if reader := _PRIMARIES.get(text):
        return reader(cursor, text)
    if found := _RAW.fullmatch(text):
        raw = RawPayload(found[1], int(found[2][:6]), int(found[3][:6]))
        return _PORTS_BY_PLACE.get(raw, raw)
    if text[0].isdigit() and not type_.endswith("_addr"):
        return number(text)
    if type_:
        return as_number(constant(text.strip('"'), type_), type_)
    raise NotUnderstoodError(f"{text!r} is no field that is known")


def _meta(cursor: Cursor, word: str) -> Meta:
    key = cursor.word() if word == "meta" else word
    key = _META_ALIASES.get(key, key)
    if key not in META:
        raise NotUnderstoodError(f"there is no 'meta {key}'")
    return Meta(key)


def _payload(cursor: Cursor, protocol: str) -> Payload | HeaderOption:
    field = cursor.word()
    if field == "option":
        return _option(cursor, protocol)
    if f"{field} {cursor.here}" in PAYLOADS[protocol]:
        field = f"{field} {cursor.take()}"
    field = _FIELD_ALIASES.get((protocol, field), field)
    if field not in PAYLOADS[protocol]:
        raise NotUnderstoodError(f"there is no '{protocol} {field}'")
    return Payload(protocol, field)


def _option(cursor: Cursor, protocol: str) -> HeaderOption:
    name = cursor.word()
    field = HeaderOption(protocol, name, cursor.here)
    if describe(field)[1] and cursor.here:
        cursor.at += 1
        return field
    if cursor.here not in ("exists", "missing", "==", "!="):
        raise NotUnderstoodError(f"there is no '{protocol} option {name} {cursor.here}'")
    return HeaderOption(protocol, name)


def _extension(cursor: Cursor, name: str) -> Exthdr | Rt:
    if name == "rt" and (cursor.here in ("classid", "nexthop", "mtu", "ipsec") or cursor.ahead() == "nexthop"):
        family = cursor.take() if cursor.here in ("ip", "ip6") else ""
        return Rt(cursor.take(), family)
    field = cursor.word()
    if field not in EXTENSIONS[name]:
        raise NotUnderstoodError(f"there is no '{name} {field}'")
    return Exthdr(name, field)


def _ct(cursor: Cursor, _: str) -> Ct:
    direction = cursor.take() if cursor.here in _DIRECTIONS else ""
    key = cursor.word()
    if key in ("ip", "ip6") and cursor.here in ("saddr", "daddr"):
        key = f"{key} {cursor.take()}"
    key = _CT_ALIASES.get(key, key)
    if key not in CONNECTION:
        raise NotUnderstoodError(f"there is no 'ct {key}'")
    if not direction and cursor.here in _DIRECTIONS and key != "direction":
        direction = cursor.take()
    return Ct(key, direction)


def _fib(cursor: Cursor, _: str) -> Fib:
    flags = [cursor.word()]
    while cursor.accept("."):
        flags.append(cursor.word())
    result = cursor.word()
    if result not in ("type", "oif", "oifname") or not set(flags) <= {"saddr", "daddr", "mark", "iif", "oif"}:
        raise NotUnderstoodError(f"there is no 'fib {' . '.join(flags)} {result}'")
    # nft lists them in its own order.
    return Fib(tuple(each for each in ("saddr", "daddr", "mark", "iif", "oif") if each in flags), result)


def _socket(cursor: Cursor, _: str) -> Socket:
    key = cursor.word()
    if key not in ("transparent", "mark", "wildcard", "cgroupv2"):
        raise NotUnderstoodError(f"there is no 'socket {key}'")
    return Socket(key, number(cursor.word()) if cursor.accept("level") else 0)


def _exthdr(cursor: Cursor, _: str) -> Exthdr:
    return Exthdr(cursor.word())


# How many words belong to a value that is not modelled, besides the options below.
_OPAQUE_WORDS = {"numgen": ("inc", "random"), "symhash": (), "osf": (), "ipsec": ("in", "out")}
_OPAQUE_OPTIONS = ("mod", "offset", "seed", "ttl", "spnum")
_OPAQUE_KEYS = ("name", "version", "reqid", "spi")


def _opaque(cursor: Cursor, kind: str) -> Opaque:
    if kind == "jhash":
        expression(cursor)
    elif cursor.here in _OPAQUE_WORDS[kind]:
        cursor.at += 1
    while cursor.here in _OPAQUE_OPTIONS:
        cursor.at += 2 if cursor.ahead() not in RULE_END else 1
    # `mod 2 0`: the offset may stand without its word only in a comparison, which is none of ours.
    if cursor.here in _OPAQUE_KEYS:
        cursor.at += 1
    elif cursor.here in ("ip", "ip6") and cursor.ahead() in ("saddr", "daddr"):
        cursor.at += 2
    return Opaque(kind)


_PRIMARIES: dict[str, Callable[[Cursor, str], Left]] = {
    **dict.fromkeys(BARE_META | _META_ALIASES.keys() | {"meta"}, _meta),
    **dict.fromkeys(PAYLOADS, _payload),
    **dict.fromkeys(EXTENSIONS, _extension),
    **dict.fromkeys((*_OPAQUE_WORDS, "jhash"), _opaque),
    "ct": _ct,
    "fib": _fib,
    "socket": _socket,
    "exthdr": _exthdr,
}
KEYWORDS = frozenset(_PRIMARIES)

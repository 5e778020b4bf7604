"""Expressions, constants, sets and maps of nft's JSON (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from failshut.model.ruleset import (
    AnyMap,
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
    Left,
    Lookup,
    Meta,
    Opaque,
    Payload,
    RawPayload,
    Right,
    Rt,
    Scalar,
    SetRef,
    Socket,
    Tuple,
    Verdict,
)
from failshut.model.symbols import CONNECTION, EXTENSIONS, META, PAYLOADS, word_of
from failshut.read.constants import any_of, as_number, bits_of, tests_bits
from failshut.read.nft.values import ANY_TYPE, between, inner_type, plain, types_of, value_of


class NotUnderstoodError(ValueError):
    """An expression outside of what the model can say."""


_Data = Scalar | Tuple | Verdict | Jump
_VERDICTS = {each.value: each for each in Verdict}
_FIB_FLAGS = ("saddr", "daddr", "mark", "iif", "oif")


def left_side(raw: Any) -> Left:
    """Return an expression that is no constant."""
    found = expression(raw)
    if isinstance(found, int):
        raise NotUnderstoodError
    return found


def expression(raw: Any, type_: str = ANY_TYPE) -> Expression:
    """Return an expression. `type_` is that of the other operand of arithmetic: its words are numbers here."""
    if isinstance(raw, dict) and len(raw) == 1:
        ((kind, body),) = raw.items()
        if kind in _READERS:
            return _READERS[kind](body)
        if kind in _BIT_OPERATORS:
            return _binary(BitOp(kind), body, type_)
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, list) and tests_bits(type_):
        return bits_of([scalar(each, type_) for each in raw], type_)
    if isinstance(raw, str) and type_:
        return as_number(scalar(raw, type_), type_)
    raise NotUnderstoodError


_BIT_OPERATORS = frozenset(each.value for each in BitOp)


def _binary(operator: BitOp, body: list[Any], type_: str) -> Expression:
    left = expression(body[0], type_)
    inner = type_ or inner_type(left)
    for each in body[1:]:
        right = expression(each, inner)
        if operator is BitOp.OR and isinstance(left, int) and isinstance(right, int):
            left |= right
        else:
            left = Binary(operator, left, right)
    return left


def _meta(body: Mapping[str, Any]) -> Meta:
    return Meta(_known(body["key"], META))


def _payload(body: Mapping[str, Any]) -> Payload | RawPayload:
    if "protocol" in body:
        return Payload(body["protocol"], _known(body["field"], PAYLOADS[body["protocol"]]))
    return RawPayload(body["base"], int(body["offset"]), int(body["len"]))


def _ct(body: Mapping[str, Any]) -> Ct:
    return Ct(_known(body["key"], CONNECTION), body.get("dir", ""))


def _exthdr(body: Mapping[str, Any]) -> Exthdr:
    if body.keys() - {"name", "field"}:
        raise NotUnderstoodError
    return Exthdr(body["name"], _known(body["field"], EXTENSIONS[body["name"]]) if "field" in body else "")


def _option(protocol: str) -> Callable[[Mapping[str, Any]], HeaderOption]:
    def read(body: Mapping[str, Any]) -> HeaderOption:
        return HeaderOption(protocol, body["name"], body.get("field", ""))

    return read


def _fib(body: Mapping[str, Any]) -> Fib:
    flags = [body["flags"]] if isinstance(body["flags"], str) else body["flags"]
    if not set(flags) <= set(_FIB_FLAGS):
        raise NotUnderstoodError
    return Fib(tuple(each for each in _FIB_FLAGS if each in flags), body["result"])


def _known(word: str, words: Mapping[str, Any]) -> str:
    if word not in words:
        raise NotUnderstoodError
    return word


def _concat(body: list[Any]) -> Concat:
    return Concat(tuple(expression(each) for each in body))


def _map(body: Mapping[str, Any]) -> Lookup:
    key = left_side(body["key"])
    return Lookup(key, any_map(body["data"], key))


def _opaque(kind: str) -> Callable[[Any], Opaque]:
    return lambda _: Opaque(kind)


_READERS: dict[str, Callable[[Any], Left]] = {
    "meta": _meta,
    "payload": _payload,
    "ct": _ct,
    "exthdr": _exthdr,
    "tcp option": _option("tcp"),
    "ip option": _option("ip"),
    "fib": _fib,
    "socket": lambda body: Socket(body["key"], int(body.get("level", 0))),
    "rt": lambda body: Rt(body["key"], body.get("family", "")),
    "concat": _concat,
    "map": _map,
    **{kind: _opaque(kind) for kind in ("numgen", "jhash", "symhash", "osf", "ipsec")},
}


# --- constants ------------------------------------------------------------------------------------------------------------


def right_side(raw: Any, left: Left) -> Right:
    """Return what an expression is compared with."""
    types = types_of(left)
    if isinstance(raw, str) and raw.startswith("@"):
        return SetRef(raw[1:])
    if isinstance(raw, dict) and "set" in raw:
        return plain(any_of(elements(raw["set"], types)), left)
    return plain(element(raw, types, left), left)


def elements(raw: Any, types: tuple[str, ...]) -> list[Element]:
    """Return the elements of a set."""
    return [element(each, types) for each in (raw if isinstance(raw, list) else [raw])]


def element(raw: Any, types: tuple[str, ...], left: Left | None = None) -> Element:
    """Return one element; its time and its counter say nothing about what it matches."""
    if isinstance(raw, dict) and raw.keys() == {"elem"}:
        return element(raw["elem"]["val"], types, left)
    if raw == "*":
        return CatchAll()
    if isinstance(raw, dict) and "concat" in raw:
        if types == (ANY_TYPE,):
            types = (ANY_TYPE,) * len(raw["concat"])
        return Tuple(tuple(scalar(each, type_) for each, type_ in zip(raw["concat"], types, strict=True)))
    if len(types) != 1:
        raise NotUnderstoodError
    return scalar(raw, types[0], left)


def scalar(raw: Any, type_: str, left: Left | None = None) -> Scalar:  # noqa: PLR0911 - one line a form
    """Return a constant of a type."""
    match raw:
        case bool():
            return _presence(raw, type_, left)
        case int():
            return word_of(raw, type_)
        case str():
            return value_of(raw, type_)
        case list() if tests_bits(type_):
            return word_of(bits_of([scalar(each, type_) for each in raw], type_), type_)
        case {"|": list(words)}:
            return word_of(bits_of([scalar(each, type_) for each in words], type_), type_)
        case {"prefix": {"addr": base, "len": int(length)}}:
            return value_of(f"{base}/{length}", type_)
        case {"range": [low, high]}:
            return between(scalar(low, type_), scalar(high, type_), type_)
        case {"elem": {"val": value}}:
            return scalar(value, type_, left)
    raise NotUnderstoodError


def _presence(raw: bool, type_: str, left: Left | None) -> Scalar:
    if type_ != "boolean" and not (isinstance(left, Fib) and left.result != "type"):
        raise NotUnderstoodError
    return "exists" if raw else "missing"


def any_map(raw: Any, key: Expression, data: tuple[str, ...] = (ANY_TYPE,)) -> AnyMap | SetRef:
    """Return the map behind `map` or `vmap`."""
    if isinstance(raw, str) and raw.startswith("@"):
        return SetRef(raw[1:])
    return AnyMap(tuple(dict(mappings(raw["set"], types_of(key), data)).items()))


def mappings(raw: Any, types: tuple[str, ...], data: tuple[str, ...]) -> list[tuple[Element, _Data]]:
    """Return the elements of a map."""
    return [(element(key, types), _data(value, data)) for key, value in raw]


def _data(raw: Any, types: tuple[str, ...]) -> _Data:
    if types == ("verdict",):
        return verdict(raw)
    found = element(raw, types)
    if isinstance(found, CatchAll):
        raise NotUnderstoodError
    return found


def verdict(raw: Any) -> Verdict | Jump:
    """Return a verdict."""
    ((kind, body),) = raw.items()
    if kind in ("jump", "goto"):
        return Jump(body["target"], kind == "goto")
    return _VERDICTS[kind]

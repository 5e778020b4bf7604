"""Statements of nft's JSON (libnftables-json(5))."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from failshut.model.ruleset import (
    Assign,
    CatchAll,
    ConnectionLimit,
    Counter,
    Ct,
    Duplicate,
    Expression,
    Exthdr,
    Family,
    Forward,
    HeaderOption,
    Jump,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    Nat,
    NatKind,
    Notrack,
    ObjectRef,
    Offload,
    Op,
    Payload,
    Queue,
    Quota,
    RawPayload,
    Reject,
    Scalar,
    Statement,
    Synproxy,
    Tproxy,
    Tuple,
    Unknown,
    UnknownMatch,
    Update,
    Verdict,
    VerdictMap,
)
from failshut.model.symbols import word_of
from failshut.read.constants import UnknowableError, any_of, bits_of, tests_bits
from failshut.read.nft.json.expressions import (
    NotUnderstoodError,
    any_map,
    element,
    expression,
    left_side,
    right_side,
    scalar,
    verdict,
)
from failshut.read.nft.meaning import limit, quota, reject
from failshut.read.nft.values import ANY_TYPE, inner_type, plain

_TARGETS = Meta | Ct | Payload | RawPayload | Exthdr | HeaderOption
_Value = Expression | Scalar


def statement(raw: Any, family: Family) -> Statement:
    """Return a statement; what is not understood is kept as it stood."""
    text = json.dumps(raw, sort_keys=True)
    try:
        ((kind, body),) = raw.items()
        if kind == "reject":
            return _reject(body or {}, family)
        return _READERS[kind](body)
    except UnknowableError:
        return UnknownMatch(text)
    except (NotUnderstoodError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Unknown(text)


def _match(body: Mapping[str, Any]) -> Match:
    left, raw, operator = left_side(body["left"]), body["right"], Op(body["op"])
    type_ = inner_type(left)
    if isinstance(raw, list):
        words = [scalar(each, type_) for each in raw]
        if operator in (Op.IN, Op.NOT_IN):
            return Match(left, plain(any_of(words), left), operator)
        return Match(left, plain(word_of(bits_of(words, type_), type_), left), operator)
    return Match(left, right_side(raw, left), operator)


def _mangle(body: Mapping[str, Any]) -> Assign | ObjectRef:
    target, raw = left_side(body["key"]), body["value"]
    if not isinstance(target, _TARGETS):
        raise NotUnderstoodError
    type_ = inner_type(target)
    if isinstance(raw, list) and tests_bits(type_):
        return Assign(target, word_of(bits_of([scalar(each, type_) for each in raw], type_), type_))
    if isinstance(raw, dict) and not raw.keys() & {"prefix", "range"}:
        return Assign(target, expression(raw))
    if target == Meta("secmark") and isinstance(raw, str):
        return ObjectRef("secmark", raw)
    return Assign(target, scalar(raw, type_))


def _update(body: Mapping[str, Any]) -> Update:
    operation, name = body["op"], body.get("set", body.get("map", ""))
    if operation not in ("add", "update", "delete") or not name.startswith("@"):
        raise NotUnderstoodError
    raw, timeout = body["elem"], 0
    if isinstance(raw, dict) and "elem" in raw:
        raw, timeout = raw["elem"]["val"], int(raw["elem"].get("timeout", 0))
    inner = tuple(statement(each, Family.INET) for each in body.get("stmt", ()))
    data = _value(body["data"]) if "data" in body else None
    return Update(name[1:], left_side(raw), operation, data, timeout, inner)


def _vmap(body: Mapping[str, Any]) -> VerdictMap:
    key = left_side(body["key"])
    return VerdictMap(key, any_map(body["data"], key, ("verdict",)))


def _counter(body: Any) -> Statement:
    if isinstance(body, str):
        return Counter(body)
    return _object_ref("counter", body) if isinstance(body, dict) and "map" in body else Counter()


def _limit(body: Any) -> Statement:
    return limit_of(body) if isinstance(body, dict) and "rate" in body else _object_ref("limit", body)


def limit_of(body: Mapping[str, Any]) -> Limit:
    """Return a limit, of a rule or with a name."""
    return limit(
        int(body["rate"]),
        body["per"],
        unit=body.get("rate_unit", ""),
        burst=int(body["burst"]) if "burst" in body else None,
        burst_unit=body.get("burst_unit", ""),
        over=bool(body.get("inv")),
    )


def _quota(body: Any) -> Statement:
    return quota_of(body) if isinstance(body, dict) and "map" not in body else _object_ref("quota", body)


def quota_of(body: Mapping[str, Any]) -> Quota:
    """Return a quota, of a rule or with a name."""
    if "bytes" in body:
        return quota(int(body["bytes"]), "bytes", over=bool(body.get("inv")))
    return quota(int(body["val"]), body.get("val_unit", "bytes"), over=bool(body.get("inv")))


def _object_ref(kind: str, body: Any) -> ObjectRef:
    if isinstance(body, str):
        return ObjectRef(kind, body)
    found = expression(body)
    if not isinstance(found, Lookup):
        raise NotUnderstoodError
    return ObjectRef(kind, found)


def _object(kind: str) -> Callable[[Any], ObjectRef]:
    return lambda body: _object_ref(kind, body)


def _log(body: Mapping[str, Any] | None) -> Log:
    body = body or {}
    if body.keys() - {"prefix", "group", "level", "snaplen", "queue-threshold", "flags"}:
        raise NotUnderstoodError
    # "warn" is nft's default level and is not listed.
    level = body.get("level", "").replace("warn", "")
    flags = _flags(body.get("flags", ()))
    return Log(body.get("prefix", ""), level, body.get("group"), body.get("snaplen"), body.get("queue-threshold"), flags)


def _flags(raw: Any) -> tuple[str, ...]:
    return (raw,) if isinstance(raw, str) else tuple(str(each) for each in raw)


def _reject(body: Mapping[str, Any], family: Family) -> Reject:
    return reject(body.get("type", ""), str(body.get("expr", "")), family)


def _nat(kind: NatKind) -> Callable[[Mapping[str, Any] | None], Nat]:
    def read(body: Mapping[str, Any] | None) -> Nat:
        body = body or {}
        flags = {*_flags(body.get("flags", ())), *_flags(body.get("type_flags", ()))} - {"netmap"}
        if body.keys() - {"addr", "family", "port", "flags", "type_flags"}:
            raise NotUnderstoodError
        return Nat(kind, _optional(body, "addr"), _optional(body, "port"), body.get("family", ""), frozenset(flags))

    return read


def _optional(body: Mapping[str, Any], key: str) -> _Value | None:
    return _value(body[key]) if key in body else None


def _value(raw: Any) -> _Value:
    if isinstance(raw, dict) and not raw.keys() & {"prefix", "range", "concat", "elem"}:
        return expression(raw)
    found = element(raw, (ANY_TYPE,))
    if isinstance(found, Tuple | CatchAll):
        return expression(raw)
    return found


def _queue(body: Mapping[str, Any] | None) -> Queue:
    number = (body or {}).get("num", 0)
    match number:
        case int():
            text = str(number)
        case {"range": [low, high]}:
            text = f"{low}-{high}"
        case _:
            text = json.dumps(number, sort_keys=True)
    return Queue(text, frozenset(_flags((body or {}).get("flags", ()))))


def _tproxy(body: Mapping[str, Any]) -> Tproxy:
    return Tproxy(body.get("family", ""), _optional(body, "addr"), _optional(body, "port"))


def _duplicate(body: Mapping[str, Any]) -> Duplicate:
    address, device = _optional(body, "addr"), _optional(body, "dev")
    return Duplicate(device=address) if device is None and isinstance(address, str) else Duplicate(address, device)


def _forward(body: Mapping[str, Any]) -> Forward:
    return Forward(_value(body["dev"]), _optional(body, "addr"), body.get("family", ""))


def _synproxy(body: Any) -> Statement:
    if isinstance(body, str):
        return ObjectRef("synproxy", body)
    flags = _flags(body.get("flags", ()))
    words = [f"{key} {body[key]}" for key in ("mss", "wscale") if key in body]
    return Synproxy(" ".join([*words, *(each for each in ("timestamp", "sack-perm") if each in flags)]))


def _flow(body: Mapping[str, Any]) -> Offload:
    return Offload(body["flowtable"].removeprefix("@"))


def _xt(body: Mapping[str, Any]) -> UnknownMatch | Unknown:
    text = f"xt {body['type']} {body['name']}"
    return UnknownMatch(text) if body["type"] == "match" else Unknown(text)


def _verdict(kind: str) -> Callable[[Any], Verdict | Jump]:
    return lambda body: verdict({kind: body})


_READERS: dict[str, Callable[[Any], Statement]] = {
    **{kind: _verdict(kind) for kind in ("accept", "drop", "return", "continue", "jump", "goto")},
    **{f"ct {kind}": _object(f"ct {kind}") for kind in ("helper", "timeout", "expectation")},
    **{kind.value: _nat(kind) for kind in NatKind},
    "match": _match, "counter": _counter, "limit": _limit, "quota": _quota, "log": _log, "mangle": _mangle, "set": _update,
    "map": _update, "vmap": _vmap, "notrack": lambda _: Notrack(), "queue": _queue, "tproxy": _tproxy, "dup": _duplicate,
    "fwd": _forward, "synproxy": _synproxy, "flow": _flow, "xt": _xt, "secmark": _object("secmark"),
    "ct count": lambda body: ConnectionLimit(int(body["val"]), bool(body.get("inv"))),
}  # fmt: skip

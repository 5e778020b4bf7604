"""`nft -j list table` → the model: rules and their expressions. What it does not understand is kept as `Unknown`, never guessed.

nft's JSON is not the whole truth (1.0.6 misreports table flags, drops `device` and `dynamic`): `read.nft` joins it with the text
listing.
Source: libnftables-json(5).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from failshut.model.ruleset import (
    AnyMap,
    AnySet,
    Assign,
    Base,
    Binary,
    BitOp,
    Chain,
    ChainType,
    Concat,
    Counter,
    Ct,
    Element,
    Expression,
    Exthdr,
    Family,
    Fib,
    Hook,
    Jump,
    Left,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    NamedSet,
    Nat,
    NatKind,
    Op,
    Payload,
    Range,
    Reject,
    Right,
    Rule,
    Ruleset,
    Scalar,
    SetRef,
    Socket,
    Statement,
    Table,
    Tuple,
    Unknown,
    Update,
    Verdict,
    VerdictMap,
)
from failshut.model.units import PROTOCOL_NAMES

_ADDRESS_FIELDS = ("saddr", "daddr", "saddr ip", "daddr ip")
_ADDRESS_PROTOCOLS = ("ip", "ip6", "arp")


class NotUnderstoodError(ValueError):
    """An expression outside of what the model can say."""


def decode(text: str) -> Ruleset:
    """Return the ruleset of a JSON listing. Raises ValueError when it is no nft listing at all."""
    try:
        objects = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this is not a listing of nft -j: {error}") from error
    tables = {_key(each["table"]): each["table"] for each in objects if "table" in each}
    return Ruleset(tuple(_table(table, objects) for table in tables.values()))


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["family"], entry.get("table", entry.get("name", ""))


def _table(table: Mapping[str, Any], objects: list[Mapping[str, Any]]) -> Table:
    key = (table["family"], table["name"])

    def of(kind: str) -> list[Mapping[str, Any]]:
        return [each[kind] for each in objects if kind in each and (each[kind]["family"], each[kind].get("table")) == key]

    rules: dict[str, list[Rule]] = {}
    for entry in of("rule"):
        rules.setdefault(entry["chain"], []).append(_rule(entry))
    chains = tuple(Chain(entry["name"], tuple(rules.get(entry["name"], ())), _base(entry)) for entry in of("chain"))
    counters = tuple(entry["name"] for entry in of("counter"))
    return Table(Family(table["family"]), table["name"], chains, tuple(_set(entry) for entry in of("set")), counters)


def _base(entry: Mapping[str, Any]) -> Base | None:
    if "hook" not in entry:
        return None
    device = entry.get("dev", "")
    return Base(
        ChainType(entry["type"]),
        Hook(entry["hook"]),
        int(entry["prio"]),
        Verdict(entry.get("policy", "accept")),
        device if isinstance(device, str) else ",".join(device),
    )


def _set(entry: Mapping[str, Any]) -> NamedSet:
    kinds = entry["type"]
    return NamedSet(
        entry["name"],
        tuple(kinds) if isinstance(kinds, list) else (str(kinds),),
        frozenset(entry.get("flags", ())),
        size=entry.get("size", 0),
        timeout=entry.get("timeout", 0),
        counter=any("counter" in statement for statement in entry.get("stmt", ())),
    )


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(tuple(_statement(each) for each in entry.get("expr", ())), entry.get("comment", ""))


def _statement(raw: Any) -> Statement:
    try:
        ((kind, body),) = raw.items()
        return _VERDICTS[kind] if kind in _VERDICTS else _READERS[kind](body)
    except (NotUnderstoodError, KeyError, TypeError, ValueError, AttributeError):
        return Unknown(json.dumps(raw, sort_keys=True))


def _match(body: Mapping[str, Any]) -> Match:
    left = _left(body["left"])
    raw = body["right"]
    if isinstance(raw, list):
        return Match(left, AnySet(tuple(_scalar(each, left) for each in raw)), Op(body["op"]))
    return Match(left, _right(raw, left), Op(body["op"]))


def _mangle(body: Mapping[str, Any]) -> Assign:
    target = _left(body["key"])
    if not isinstance(target, Meta | Ct | Payload):
        raise NotUnderstoodError
    value = body["value"]
    if isinstance(value, dict) and "map" in value:
        key = _left(value["map"]["key"])
        entries = value["map"]["data"]["set"]
        return Assign(target, Lookup(key, AnyMap(tuple((_scalar(each[0], key), int(each[1])) for each in entries))))
    return Assign(target, _expression(value))


def _expression(raw: Any) -> Expression:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else _left(raw)


def _update(body: Mapping[str, Any]) -> Update:
    key = _left(body["elem"])
    if body["op"] != "update" or not isinstance(key, Concat):
        raise NotUnderstoodError
    return Update(body["set"].removeprefix("@"), key)


def _vmap(body: Mapping[str, Any]) -> VerdictMap:
    key = _left(body["key"])
    elements: list[tuple[Element, Scalar | Tuple | Verdict | Jump]] = []
    for element, verdict in body["data"]["set"]:
        then = _statement(verdict)
        if not isinstance(then, Verdict | Jump):
            raise NotUnderstoodError
        elements.append((_element(element, key), then))
    return VerdictMap(key, AnyMap(tuple(elements)))


def _masquerade(body: Mapping[str, Any] | None) -> Nat:
    if body:
        raise NotUnderstoodError
    return Nat(NatKind.MASQUERADE)


def _counter(body: Any) -> Counter:
    return Counter(body) if isinstance(body, str) else Counter()


def _limit(body: Mapping[str, Any]) -> Limit:
    if body.get("inv") or "rate_unit" in body:
        raise NotUnderstoodError
    return Limit(int(body["rate"]), body["per"], int(body.get("burst", 5)))


def _log(body: Mapping[str, Any] | None) -> Log:
    body = body or {}
    if set(body) - {"prefix", "group", "level"}:
        raise NotUnderstoodError
    # "warn" is nft's default level and is not listed.
    return Log(body.get("prefix", ""), body.get("level", ""), body.get("group"))


def _reject(body: Mapping[str, Any] | None) -> Reject:
    body = body or {}
    return Reject(body.get("type", ""), str(body.get("expr", "")))


_VERDICTS: dict[str, Verdict] = {each.value: each for each in Verdict}
_READERS: dict[str, Callable[[Any], Statement]] = {
    "match": _match,
    "jump": lambda body: Jump(body["target"]),
    "goto": lambda body: Jump(body["target"], goto=True),
    "reject": _reject,
    "counter": _counter,
    "limit": _limit,
    "log": _log,
    "mangle": _mangle,
    "set": _update,
    "vmap": _vmap,
    "masquerade": _masquerade,
}


def _left(raw: Any) -> Left:  # noqa: PLR0911 - one line a kind
    if not isinstance(raw, dict) or len(raw) != 1:
        raise NotUnderstoodError
    ((kind, body),) = raw.items()
    match kind:
        case "meta":
            return Meta(body["key"])
        case "payload" if "protocol" in body:
            return Payload(body["protocol"], body["field"])
        case "ct" if "dir" not in body:
            return Ct(body["key"])
        case "exthdr" if body.keys() == {"name"}:
            return Exthdr(body["name"])
        case "fib":
            return Fib(tuple(body["flags"]), body["result"])
        case "socket":
            # nft 1.0.6 leaves the level out: `read.nft` takes it from the text.
            return Socket(body["key"], int(body.get("level", 0)))
        case "&" | "|" | "^" | "<<" | ">>":
            return Binary(BitOp(kind), _expression(body[0]), _expression(body[1]))
        case "concat":
            return Concat(tuple(_part(each) for each in body))
    raise NotUnderstoodError


def _part(raw: Any) -> Meta | Payload | Ct | int:
    if isinstance(raw, int):
        return raw
    part = _left(raw)
    if isinstance(part, Meta | Payload | Ct):
        return part
    raise NotUnderstoodError


def _right(raw: Any, left: Left) -> Right:
    if isinstance(raw, dict) and "set" in raw:
        return AnySet(tuple(_element(each, left) for each in raw["set"]))
    if isinstance(raw, str) and raw.startswith("@"):
        return SetRef(raw.removeprefix("@"))
    return _element(raw, left)


def _element(raw: Any, left: Left) -> Scalar | Tuple:
    if isinstance(raw, dict) and "concat" in raw:
        parts = left.parts if isinstance(left, Concat) else ()
        return Tuple(tuple(_scalar(each, part) for each, part in zip(raw["concat"], parts, strict=True)))
    return _scalar(raw, left)


def _scalar(raw: Any, left: Left | int) -> Scalar:
    if isinstance(left, Exthdr) and isinstance(raw, bool):
        return "exists" if raw else "missing"
    if isinstance(raw, bool) or raw is None or isinstance(left, Exthdr):
        raise NotUnderstoodError
    if isinstance(raw, int):
        return PROTOCOL_NAMES.get(raw, raw) if left == Meta("l4proto") else raw
    if isinstance(raw, str):
        return ip_address(raw) if _is_address(left) else raw
    if "prefix" in raw:
        return ip_network((raw["prefix"]["addr"], raw["prefix"]["len"]))
    if "range" in raw and all(isinstance(each, int) for each in raw["range"]):
        return Range(*raw["range"])
    raise NotUnderstoodError


def _is_address(left: Left | int) -> bool:
    return isinstance(left, Payload) and left.protocol in _ADDRESS_PROTOCOLS and left.field in _ADDRESS_FIELDS

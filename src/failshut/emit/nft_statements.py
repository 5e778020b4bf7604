"""Statements and rules as nft's text."""

from __future__ import annotations

from typing import assert_never

from failshut.emit.nft_expressions import (
    UnsupportedError,
    data_text,
    expression_text,
    map_text,
    name_text,
    quotable,
    right_text,
    scalar_text,
)
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Binary,
    ConnectionLimit,
    Counter,
    Ct,
    Duplicate,
    Expression,
    Forward,
    Jump,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    Nat,
    Notrack,
    ObjectRef,
    Offload,
    Op,
    Payload,
    Queue,
    Quota,
    Reject,
    Rule,
    Scalar,
    SetRef,
    Statement,
    Synproxy,
    Tproxy,
    Unknown,
    UnknownMatch,
    Update,
    Verdict,
    VerdictMap,
)

# Without an operator nft takes a comparison with these as a test of bits.
_FLAGS = (Ct("state"), Ct("status"), Ct("label"), Payload("tcp", "flags"))
# `ct helper set "name"`, as against `limit name "name"`.
_SET_BY_NAME = ("ct helper", "ct timeout", "ct expectation")


def rule_text(rule: Rule) -> str:
    """Return one rule on one line, with its comment."""
    words = [statement_text(each) for each in rule.statements]
    if rule.comment:
        words.append(f'comment "{quotable(rule.comment, "comment")}"')
    return " ".join(words)


def statement_text(statement: Statement) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind is the clearest table there is
    """Return one statement. Raises `UnsupportedError` for what was read and not understood."""
    match statement:
        case Match():
            return _match(statement)
        case Verdict() | Jump():
            return data_text(statement)
        case Reject():
            return f"reject with {statement.kind} {statement.code}".rstrip() if statement.kind else "reject"
        case Counter():
            return f'counter name "{quotable(statement.name)}"' if statement.name else "counter"
        case Limit():
            return _limit(statement)
        case Quota():
            return f"quota {_over(statement.over)}{statement.size} bytes"
        case ConnectionLimit():
            return f"ct count {_over(statement.over)}{statement.count}"
        case ObjectRef():
            return _object_ref(statement)
        case Log():
            return _log(statement)
        case Assign():
            return f"{expression_text(statement.target)} set {_value(statement.value, statement.target)}"
        case Update():
            return _update(statement)
        case VerdictMap():
            return f"{expression_text(statement.key)} vmap {map_text(statement.map, statement.key)}"
        case Nat():
            return _nat(statement)
        case Notrack():
            return "notrack"
        case Queue():
            flags = f" flags {','.join(sorted(statement.flags))}" if statement.flags else ""
            return f"queue{flags} to {statement.number}"
        case Tproxy():
            return _tproxy(statement)
        case Duplicate():
            return _duplicate(statement)
        case Forward():
            return _forward(statement)
        case Offload():
            return f"flow add @{name_text(statement.flowtable)}"
        case Synproxy():
            return f"synproxy {statement.text}".rstrip()
        case Unknown() | UnknownMatch():
            raise UnsupportedError(f"what was read and not understood can't be written: {statement.text}")
        case _:
            assert_never(statement)


def _match(match: Match) -> str:
    # nft takes "==" and its implicit flag test as no operator at all, and lists them so.
    operator = "" if match.op in (Op.EQ, Op.IN) else f"{match.op} "
    right = right_text(match.right, match.left)
    if match.op in (Op.IN, Op.NOT_IN):
        right = right.strip("{} ").replace(", ", ",")
    elif match.op is Op.EQ and _tests_bits(match.left) and not isinstance(match.right, AnySet | SetRef):
        operator = "== "
    return f"{expression_text(match.left)} {operator}{right}"


def _tests_bits(left: Expression) -> bool:
    return isinstance(left, Binary) or left in _FLAGS


def _value(value: Expression | Scalar, target: Expression | None = None) -> str:
    return scalar_text(value, target) if isinstance(value, Scalar) else expression_text(value)


def _over(over: bool) -> str:
    return "over " if over else ""


def _limit(limit: Limit) -> str:
    rate = f"{limit.rate} {limit.unit}" if limit.unit else str(limit.rate)
    burst = f" burst {limit.burst} {limit.burst_unit or 'packets'}" if limit.burst else ""
    return f"limit rate {_over(limit.over)}{rate}/{limit.per}{burst}"


def _object_ref(reference: ObjectRef) -> str:
    name = expression_text(reference.name) if isinstance(reference.name, Lookup) else f'"{quotable(reference.name)}"'
    return f"{reference.kind} {'set' if reference.kind in _SET_BY_NAME else 'name'} {name}"


def _log(log: Log) -> str:
    words = ["log"]
    if log.prefix:
        words.append(f'prefix "{quotable(log.prefix, "prefix")}"')
    if log.group is not None:
        words.append(f"group {log.group}")
    if log.snaplen is not None:
        words.append(f"snaplen {log.snaplen}")
    if log.queue_threshold is not None:
        words.append(f"queue-threshold {log.queue_threshold}")
    if log.level and log.group is None:
        words.append(f"level {log.level}")
    words += [f"flags {each}" for each in log.flags]
    return " ".join(words)


def _update(update: Update) -> str:
    key = expression_text(update.key)
    timeout = f" timeout {update.timeout}s" if update.timeout else ""
    inner = "".join(f" {statement_text(each)}" for each in update.statements)
    data = "" if update.data is None else f" : {_value(update.data)}"
    return f"{update.operation} @{name_text(update.set)} {{ {key}{timeout}{inner}{data} }}"


def _nat(nat: Nat) -> str:
    words: list[str] = [nat.kind]
    if nat.family:
        words.append(nat.family)
    if nat.address is not None or nat.port is not None:
        words.append("to")
        words.append(_target(nat.address, nat.port))
    if nat.flags:
        words.append(",".join(sorted(nat.flags)))
    return " ".join(words)


def _target(address: Expression | Scalar | None, port: Expression | Scalar | None) -> str:
    """Return `address:port`, with either part left out."""
    behind = "" if port is None else f":{_value(port)}"
    if address is None:
        return behind
    host = _value(address)
    # An IPv6 address and its port would run into one another.
    return f"[{host}]{behind}" if ":" in host and behind and not isinstance(address, Lookup) else f"{host}{behind}"


def _tproxy(proxy: Tproxy) -> str:
    family = f" {proxy.family}" if proxy.family else ""
    return f"tproxy{family} to {_target(proxy.address, proxy.port)}"


def _duplicate(copy: Duplicate) -> str:
    address = "" if copy.address is None else f" to {_value(copy.address)}"
    return f"dup{address}{_device(copy.device, 'device' if address else 'to')}"


def _forward(forward: Forward) -> str:
    family = f" {forward.family}" if forward.family else ""
    if forward.address is None:
        return f"fwd{_device(forward.device, 'to')}"
    return f"fwd{family} to {_value(forward.address)}{_device(forward.device, 'device')}"


def _device(device: Expression | Scalar | None, preposition: str) -> str:
    return "" if device is None else f" {preposition} {_value(device, Meta('oif'))}"

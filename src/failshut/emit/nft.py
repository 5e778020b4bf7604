"""Ruleset → the text that `nft -f` loads in one transaction.

The form is what makes a load safe (docs/adr/0001): every table first as a skeleton whose chains exist and drop, then `flush table`,
then the rules. Replacing a table (`delete table`) leaks while the transaction commits, and a file cut after it would leave the
machine open; cut anywhere, this text leaves chains that drop everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import assert_never

from failshut.model.ruleset import (
    AnySet,
    Base,
    Chain,
    Concat,
    Counter,
    Ct,
    Exthdr,
    Fib,
    Jump,
    Left,
    Limit,
    Log,
    MapMark,
    Masked,
    Match,
    Meta,
    NamedSet,
    Op,
    Payload,
    Range,
    Reject,
    Right,
    Rule,
    Ruleset,
    Scalar,
    SetMark,
    SetRef,
    Statement,
    Table,
    Tuple,
    Unknown,
    Update,
    Verdict,
    VerdictMap,
)

# nft's tokens that its grammar does not take as a chain's name (measured with nft 1.0.6; `in`, `out`, `input` pass).
RESERVED = frozenset({"fwd", "log", "mark", "meta", "map", "set", "table", "chain", "rule", "limit", "counter", "drop", "accept"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./\\-]*")
# nft has no escape inside a quoted string.
_QUOTABLE = re.compile(r'[^"\\\x00-\x1f\x7f]+')
# NFTNL_UDATA_COMMENT_MAXLEN and NF_LOG_PREFIXLEN - 1.
_MAX_QUOTED = {"comment": 128, "prefix": 127}
_MARK_KEYS = ("mark",)
_NAME_KEYS = ("iifname", "oifname", "iif", "oif")


class UnsupportedError(ValueError):
    """The ruleset holds something that nft's text can't say. Never dropped, never approximated."""


def emit(ruleset: Ruleset, *, stale: Iterable[tuple[Table, Chain]] = ()) -> str:
    """Return the text of one transaction that makes the kernel's tables of these names equal to `ruleset`.

    `stale` are chains that the kernel holds and `ruleset` does not, or not with that hook: they are emptied and deleted in the same
    transaction. Raises `UnsupportedError` for what nft can't say.
    """
    blocks = [
        *_drop_stale(tuple(stale)),
        *(_skeleton(table) for table in ruleset.tables),
        *(f"flush table {table.family} {table.name}\n" for table in ruleset.tables),
        *(table_text(table) for table in ruleset.tables),
    ]
    return "\n".join(blocks)


def emit_by_device(ruleset: Ruleset) -> str:
    """Return the same tables for a machine on which some devices may be missing when the text is loaded.

    What follows a line `# device NAME` belongs to that device alone: whoever loads the text leaves it out while there is no such
    device. No block depends on one that may be left out.
    """
    devices = [(table, chain) for table in ruleset.tables for chain in table.chains if chain.base and chain.base.device]
    common = [
        replace(table, chains=tuple(each for each in table.chains if (table, each) not in devices)) for table in ruleset.tables
    ]
    own = [
        f"# device {chain.base.device}\n{table_text(replace(table, chains=(chain,), sets=(), counters=()))}"
        for table, chain in devices
        if chain.base
    ]
    return "\n".join([emit(Ruleset(tuple(common))), *own])


def table_text(table: Table) -> str:
    """Return one table as `nft list table` would write it: what a person reads, and what two rulesets are compared by."""
    counters = [f"\tcounter {_name(each)} {{ }}\n" for each in table.counters]
    sets = [_set_text(each) for each in table.sets]
    chains = [_chain_text(each, with_rules=True) for each in table.chains]
    return _block(table, counters + sets + chains)


def _skeleton(table: Table) -> str:
    return _block(table, [_chain_text(each, with_rules=False) for each in table.chains if each.base])


def _drop_stale(stale: tuple[tuple[Table, Chain], ...]) -> Iterator[str]:
    for table in dict.fromkeys(table for table, _ in stale):
        yield f"flush table {table.family} {table.name}\n"
    for table, chain in stale:
        yield f"delete chain {table.family} {table.name} {_name(chain.name)}\n"


def _block(table: Table, parts: list[str]) -> str:
    body = "\n".join(parts)
    flags = f"\tflags {','.join(sorted(table.flags))}\n" if table.flags else ""
    return f"table {table.family} {_name(table.name)} {{\n{flags}{body}}}\n"


def _set_text(named: NamedSet) -> str:
    lines = [f"\t\ttype {' . '.join(named.key)}"]
    if named.size:
        lines.append(f"\t\tsize {named.size}")
    if named.flags:
        lines.append(f"\t\tflags {','.join(sorted(named.flags))}")
    if named.counter:
        lines.append("\t\tcounter")
    if named.timeout:
        lines.append(f"\t\ttimeout {named.timeout}s")
    return f"\tset {_name(named.name)} {{\n" + "\n".join(lines) + "\n\t}\n"


def _chain_text(chain: Chain, *, with_rules: bool) -> str:
    lines = [_base_text(chain.base)] if chain.base else []
    if with_rules:
        lines += [f"\t\t{rule_text(each)}" for each in chain.rules]
    return f"\tchain {_name(chain.name)} {{\n" + "".join(line + "\n" for line in lines) + "\t}\n"


def _base_text(base: Base) -> str:
    device = f' device "{_quotable(base.device)}"' if base.device else ""
    return f"\t\ttype {base.type} hook {base.hook}{device} priority {base.priority}; policy {base.policy};"


def rule_text(rule: Rule) -> str:
    """Return one rule on one line, with its comment."""
    words = [_statement(each) for each in rule.statements]
    if rule.comment:
        words.append(f'comment "{_quotable(rule.comment, "comment")}"')
    return " ".join(words)


def _statement(statement: Statement) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind is the clearest table there is
    match statement:
        case Match():
            return _match(statement)
        case Verdict():
            return statement.value
        case Jump():
            return f"{'goto' if statement.goto else 'jump'} {_name(statement.target)}"
        case Reject():
            return f"reject with {statement.kind} {statement.code}".rstrip()
        case Counter():
            return f'counter name "{_quotable(statement.name)}"' if statement.name else "counter"
        case Limit():
            return f"limit rate {statement.rate}/{statement.per} burst {statement.burst} packets"
        case Log():
            return _log(statement)
        case SetMark():
            return _set_mark(statement)
        case MapMark():
            entries = ", ".join(f"{_scalar(key, statement.key)} : {value:#010x}" for key, value in statement.elements)
            return f"{_left(statement.target)} set {_left(statement.key)} map {{ {entries} }}"
        case Update():
            return f"update @{_name(statement.set)} {{ {_left(statement.key)} }}"
        case VerdictMap():
            entries = ", ".join(f"{_element(key, statement.key)} : {_statement(then)}" for key, then in statement.elements)
            return f"{_left(statement.key)} vmap {{ {entries} }}"
        case Unknown():
            raise UnsupportedError(f"what was read and not understood can't be written: {statement.text}")
        case _:
            assert_never(statement)


def _match(match: Match) -> str:
    # nft takes "==" and its implicit flag test as no operator at all, and lists them so.
    operator = "" if match.op in (Op.EQ, Op.IN) else f"{match.op} "
    right = _right(match.right, match.left)
    if match.op is Op.IN:
        right = right.strip("{} ").replace(", ", ",")
    elif isinstance(match.left, Masked) and match.op is Op.EQ:
        operator = "== "
    return f"{_left(match.left)} {operator}{right}"


def _set_mark(change: SetMark) -> str:
    target = _left(change.target)
    if not change.keep:
        return f"{target} set {change.value:#010x}"
    if change.keep == 0xFFFFFFFF:
        return f"{target} set {target} | {change.value:#010x}"
    if not change.value:
        return f"{target} set {target} & {change.keep:#010x}"
    return f"{target} set {target} & {change.keep:#010x} | {change.value:#010x}"


def _log(log: Log) -> str:
    words = ["log"]
    if log.prefix:
        words.append(f'prefix "{_quotable(log.prefix, "prefix")}"')
    if log.group is not None:
        words.append(f"group {log.group}")
    elif log.level:
        words.append(f"level {log.level}")
    return " ".join(words)


def _left(left: Left | int) -> str:  # noqa: PLR0911 - as `_statement`
    match left:
        case int():
            return str(left)
        case Meta():
            # nft lists these without their family's word.
            return left.key if left.key in _NAME_KEYS else f"meta {left.key}"
        case Payload():
            return f"{left.protocol} {left.field}"
        case Ct():
            return f"ct {left.key}"
        case Exthdr():
            return f"exthdr {left.name}"
        case Fib():
            return f"fib {' . '.join(left.flags)} {left.result}"
        case Masked():
            return f"{_left(left.of)} & {left.mask:#010x}"
        case Concat():
            return " . ".join(_left(part) for part in left.parts)
        case _:
            assert_never(left)


def _right(right: Right, left: Left) -> str:
    match right:
        case AnySet():
            return "{ " + ", ".join(_element(each, left) for each in right.elements) + " }"
        case SetRef():
            return f"@{_name(right.name)}"
        case _:
            return _element(right, left)


def _element(element: Scalar | Tuple, left: Left) -> str:
    if isinstance(element, Tuple):
        parts = left.parts if isinstance(left, Concat) else ()
        if len(parts) != len(element.parts):
            raise UnsupportedError(f"{element} does not fit its key")
        return " . ".join(_scalar(value, part) for value, part in zip(element.parts, parts, strict=True))
    return _scalar(element, left)


def _scalar(value: Scalar, left: Left | int) -> str:
    match value:
        case int():
            return f"{value:#010x}" if _is_mark(left) else _number(value, left)
        case str():
            return f'"{_quotable(value)}"' if isinstance(left, Meta) and left.key in _NAME_KEYS else _word(value)
        case IPv4Address() | IPv6Address() | IPv4Network() | IPv6Network():
            return str(value)
        case Range():
            return f"{value.low}-{value.high}"
        case _:
            assert_never(value)


def _number(value: int, left: Left | int) -> str:
    return f"{value:#06x}" if left == Payload("ether", "type") else str(value)


def _is_mark(left: Left | int) -> bool:
    return isinstance(left, Masked) or (isinstance(left, Meta | Ct) and left.key in _MARK_KEYS)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise UnsupportedError(f"nft can't take {name!r} as a name")
    return name


def _word(word: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", word):
        raise UnsupportedError(f"nft can't take {word!r} as a value")
    return word


def _quotable(text: str, kind: str = "") -> str:
    if not _QUOTABLE.fullmatch(text) or len(text.encode()) > _MAX_QUOTED.get(kind, 128):
        raise UnsupportedError(f"nft can't quote {text!r}")
    return text

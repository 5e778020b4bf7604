"""Statements of nft's grammar: one reader a first word, and what begins with a field."""

from __future__ import annotations

import re
from collections.abc import Callable

from failshut.model.ruleset import (
    Assign,
    CatchAll,
    Chain,
    ConnectionLimit,
    Counter,
    Ct,
    Exthdr,
    HeaderOption,
    Jump,
    Limit,
    Log,
    Lookup,
    Meta,
    Notrack,
    ObjectRef,
    Offload,
    Origin,
    Payload,
    Queue,
    Quota,
    RawPayload,
    Reject,
    Rule,
    Statement,
    Synproxy,
    Tuple,
    Unknown,
    UnknownMatch,
    Update,
    VerdictMap,
)
from failshut.model.symbols import word_of
from failshut.read.constants import UnknowableError, bits_of, number, seconds, tests_bits
from failshut.read.nft.meaning import XT_IS_SILENT, limit, quota, reject
from failshut.read.nft.text.cursor import RULE_END, Cursor, NotUnderstoodError
from failshut.read.nft.text.expressions import KEYWORDS, OPERATORS, expression, left_side
from failshut.read.nft.text.nat import duplicate, forward, masquerade, redirect, tproxy, translate
from failshut.read.nft.text.values import any_map, comparison, element, flag_list, skip_traits, verdict
from failshut.read.nft.values import inner_type

_RATE = re.compile(r"(\d+)(?:/(\w+))?")
_TARGETS = Meta | Ct | Payload | RawPayload | Exthdr | HeaderOption
_CT_OBJECTS = ("helper", "timeout", "expectation")


def statement(cursor: Cursor) -> Statement:
    """Read one statement. Raises ValueError for what is not understood, with the cursor anywhere within the rule."""
    word = cursor.here
    if reader := _READERS.get(word):
        cursor.at += 1
        return reader(cursor)
    if word.startswith("# xt_"):
        # Old releases print a match or a target of iptables as a comment; which of both it is, they don't say.
        cursor.at += 1
        return _opaque(cursor, word[2:], Unknown(word[2:]))
    return _of_field(cursor)


def _of_field(cursor: Cursor) -> Statement:
    """Read what begins with a field: a match, an assignment, a verdict map."""
    start = cursor.at
    left = left_side(cursor)
    if cursor.accept("vmap"):
        return VerdictMap(left, any_map(cursor, left, ("verdict",)))
    if cursor.here == "set" and isinstance(left, _TARGETS):
        cursor.at += 1
        return _assign(cursor, left)
    try:
        return comparison(cursor, left)
    except UnknowableError as error:
        if "{" in cursor.texts[start : cursor.at]:
            cursor.at = cursor.texts.index("{", start) + 1
            cursor.skip_block()
        text = cursor.text_since(start)
        cursor.assume(start, text, f"it may match or not: {error}")
        return UnknownMatch(text)


def _assign(cursor: Cursor, target: _TARGETS) -> Assign | ObjectRef:
    if cursor.here in KEYWORDS or cursor.here == "(" or cursor.here.startswith("@") or cursor.ahead() in OPERATORS:
        return Assign(target, expression(cursor))
    type_ = inner_type(target)
    if target == Meta("secmark"):
        return ObjectRef("secmark", cursor.word())
    if tests_bits(type_):
        return Assign(target, word_of(bits_of(flag_list(cursor, type_), type_), type_))
    value = element(cursor, (type_,))
    if isinstance(value, Tuple | CatchAll):
        raise NotUnderstoodError("several values for one field")
    return Assign(target, value)


def _ct(cursor: Cursor) -> Statement:
    if cursor.here in _CT_OBJECTS and cursor.ahead() == "set":
        kind = f"ct {cursor.take()}"
        cursor.at += 1
        return _object(cursor, kind)
    if cursor.accept("count"):
        over = cursor.accept("over")
        return ConnectionLimit(number(cursor.word()), over)
    cursor.at -= 1
    return _of_field(cursor)


def _object(cursor: Cursor, kind: str) -> ObjectRef:
    if cursor.here in KEYWORDS:
        found = expression(cursor)
        if isinstance(found, Lookup):
            return ObjectRef(kind, found)
        raise NotUnderstoodError(f"a {kind} without a name")
    return ObjectRef(kind, cursor.word())


def _counter(cursor: Cursor) -> Statement:
    if cursor.accept("name"):
        named = _object(cursor, "counter")
        return Counter(named.name) if isinstance(named.name, str) else named
    while cursor.here in ("packets", "bytes"):
        cursor.at += 2
    return Counter()


def _limit(cursor: Cursor) -> Statement:
    return _object(cursor, "limit") if cursor.accept("name") else limit_body(cursor)


def limit_body(cursor: Cursor) -> Limit:
    """Read `rate over 10 mbytes/second burst 3 kbytes`."""
    cursor.expect("rate")
    over = cursor.accept("over")
    rate, per = _amount(cursor.word())
    unit = ""
    if not per and "/" in cursor.here and cursor.here != "/":
        unit, _, per = cursor.word().partition("/")
    elif not per and cursor.here != "/":
        unit = cursor.word()
    if not per:
        cursor.expect("/")
        per = cursor.word()
    burst, burst_unit = None, ""
    if cursor.accept("burst"):
        burst, burst_unit = number(cursor.word()), cursor.word()
    return limit(rate, per, unit=unit, burst=burst, burst_unit=burst_unit, over=over)


def _amount(word: str) -> tuple[int, str]:
    found = _RATE.fullmatch(word)
    if not found:
        raise NotUnderstoodError(f"{word!r} is no rate")
    return number(found[1]), found[2] or ""


def _quota(cursor: Cursor) -> Statement:
    return _object(cursor, "quota") if cursor.accept("name") else quota_body(cursor)


def quota_body(cursor: Cursor) -> Quota:
    """Read `over 25 mbytes used 3 bytes`."""
    over = cursor.here == "over"
    if cursor.here in ("over", "until"):
        cursor.at += 1
    found = quota(number(cursor.word()), cursor.word(), over=over)
    if cursor.accept("used"):
        cursor.word()
        cursor.word()
    return found


def _log(cursor: Cursor) -> Log:
    words: dict[str, str] = {}
    flags: list[str] = []
    while cursor.here in ("prefix", "level", "group", "snaplen", "queue-threshold", "flags"):
        key = cursor.take()
        if key == "flags":
            flags += _log_flags(cursor)
        else:
            words[key] = cursor.word()

    def amount(key: str) -> int | None:
        return number(words[key]) if key in words else None

    # "warn" is nft's default level and is not listed.
    level = words.get("level", "").replace("warn", "")
    return Log(words.get("prefix", ""), level, amount("group"), amount("snaplen"), amount("queue-threshold"), tuple(flags))


def _log_flags(cursor: Cursor) -> list[str]:
    kind = cursor.word()
    if kind not in ("tcp", "ip"):
        return [kind]
    found = [f"{kind} {cursor.word()}"]
    while cursor.accept(","):
        found.append(f"{kind} {cursor.word()}")
    return found


def _reject(cursor: Cursor) -> Reject:
    if not cursor.accept("with"):
        return Reject()
    kind = cursor.word()
    if kind == "tcp":
        cursor.expect("reset")
        return Reject("tcp reset")
    if kind not in ("icmp", "icmpv6", "icmpx"):
        raise NotUnderstoodError(f"a reject with {kind!r}")
    cursor.accept("type")
    return reject(kind, cursor.word(), cursor.family)


def _queue(cursor: Cursor) -> Queue:
    flags: set[str] = set()
    if cursor.accept("flags"):
        flags |= _words(cursor)
    to = "0"
    if cursor.here in ("num", "to"):
        cursor.at += 1
        start = cursor.at
        if cursor.here in KEYWORDS or cursor.here in ("numgen", "jhash", "symhash"):
            expression(cursor)
            to = cursor.text_since(start)
        else:
            to = cursor.word()
    if cursor.here in ("bypass", "fanout"):
        flags |= _words(cursor)
    return Queue(to, frozenset(flags))


def _words(cursor: Cursor) -> set[str]:
    found = {cursor.word()}
    while cursor.accept(","):
        found.add(cursor.word())
    return found


def _update(operation: str) -> Callable[[Cursor], Update]:
    def read(cursor: Cursor) -> Update:
        name = cursor.take()
        if not name.startswith("@"):
            raise NotUnderstoodError(f"{name!r} where a set is due")
        cursor.expect("{")
        return _update_body(cursor, name[1:], operation)

    return read


def _update_body(cursor: Cursor, name: str, operation: str) -> Update:
    cursor.skip_lines()
    key = left_side(cursor)
    timeout, data, inner = 0, None, []
    while not cursor.accept("}"):
        if cursor.accept("timeout"):
            timeout = seconds(cursor.word())
        elif cursor.accept(":"):
            data = expression(cursor) if cursor.here in KEYWORDS else number(cursor.word())
        elif cursor.here in ("expires", "comment"):
            skip_traits(cursor)
        elif not cursor.accept("\n"):
            inner.append(statement(cursor))
    return Update(name, key, operation, data, timeout, tuple(inner))


def _set(cursor: Cursor) -> Update:
    """Read the older `set add ip saddr @name`."""
    operation = cursor.word()
    key = left_side(cursor)
    timeout = seconds(cursor.word()) if cursor.accept("timeout") else 0
    name = cursor.take()
    if operation not in ("add", "update", "delete") or not name.startswith("@"):
        raise NotUnderstoodError("a set statement of another form")
    return Update(name[1:], key, operation, None, timeout)


def _meter(cursor: Cursor) -> Update:
    """Read `meter name size 128 { ip saddr limit rate 10/second }`: a dynamic set by another name."""
    name = cursor.word()
    if cursor.accept("size"):
        cursor.word()
    cursor.expect("{")
    return _update_body(cursor, name, "update")


def _jump(*, goto: bool) -> Callable[[Cursor], Statement]:
    def read(cursor: Cursor) -> Statement:
        if not cursor.accept("{"):
            return Jump(cursor.word(), goto)
        start = cursor.at
        rules = []
        cursor.skip_separators()
        while not cursor.accept("}"):
            rules.append(rule(cursor))
            cursor.skip_separators()
            if not cursor.here:
                raise NotUnderstoodError("a chain within a rule that is not closed")
        # nft names them so, with numbers of its own.
        name = f"__chain{len(cursor.anonymous)}"
        cursor.anonymous.append(Chain(name, tuple(rules), origin=origin(cursor, start)))
        return Jump(name, goto)

    return read


def _xt(cursor: Cursor) -> Statement:
    kind, name = cursor.word(), cursor.word()
    text = f"xt {kind} {name}"
    return _opaque(cursor, text, UnknownMatch(text) if kind == "match" else Unknown(text))


def _opaque(cursor: Cursor, text: str, found: UnknownMatch | Unknown) -> Statement:
    assumed = "it may match or not" if isinstance(found, UnknownMatch) else "it may do anything"
    cursor.assume(cursor.at - 1, text, f"{assumed}: {XT_IS_SILENT}")
    return found


def _offload(cursor: Cursor) -> Offload:
    if cursor.word() not in ("add", "offload") or not cursor.here.startswith("@"):
        raise NotUnderstoodError("a flow statement of another form")
    return Offload(cursor.take()[1:])


def _synproxy(cursor: Cursor) -> Statement:
    if cursor.accept("name"):
        return _object(cursor, "synproxy")
    words = []
    while cursor.here in ("mss", "wscale", "timestamp", "sack-perm"):
        words.append(cursor.take())
        if words[-1] in ("mss", "wscale"):
            words.append(cursor.word())
    return Synproxy(" ".join(words))


def _verdict(cursor: Cursor) -> Statement:
    cursor.at -= 1
    return verdict(cursor)


_READERS: dict[str, Callable[[Cursor], Statement]] = {
    **dict.fromkeys(("accept", "drop", "return", "continue"), _verdict),
    "jump": _jump(goto=False), "goto": _jump(goto=True), "ct": _ct, "counter": _counter, "limit": _limit, "quota": _quota,
    "log": _log, "reject": _reject, "queue": _queue, "add": _update("add"), "update": _update("update"),
    "delete": _update("delete"), "set": _set, "meter": _meter, "flow": _offload, "notrack": lambda _: Notrack(), "xt": _xt,
    "synproxy": _synproxy, "snat": translate("snat"), "dnat": translate("dnat"), "masquerade": masquerade, "redirect": redirect,
    "tproxy": tproxy, "dup": duplicate, "fwd": forward,
}  # fmt: skip


def rule(cursor: Cursor) -> Rule:
    """Read a rule, up to the end of its line or block. What is not understood in it may do anything, and is noted."""
    start, found, comment = cursor.at, [], ""
    while cursor.here not in RULE_END:
        at = cursor.at
        try:
            if cursor.accept("comment"):
                comment = cursor.word()
            else:
                found.append(statement(cursor))
        except RecursionError:
            found.append(_not_understood(cursor, at, "it is nested too deeply"))
        except ValueError as error:
            found.append(_not_understood(cursor, at, str(error)))
    return Rule(tuple(found), comment, origin(cursor, start))


def _not_understood(cursor: Cursor, start: int, why: str) -> Unknown:
    cursor.at = start
    cursor.skip_rule()
    text = cursor.text_since(start)
    cursor.assume(start, text, f"it may do anything: {why}")
    return Unknown(text)


def origin(cursor: Cursor, start: int) -> Origin:
    """Return where something stood that began at a token and ends before the one that one stands before."""
    return Origin(cursor.source.name, cursor.source.line_of(cursor.offsets[start]), cursor.text_since(start))

"""Constants, sets and maps of nft's grammar: what stands right of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from failshut.model.ruleset import (
    AnyMap,
    AnySet,
    Binary,
    CatchAll,
    Element,
    Ending,
    Expression,
    Jump,
    Left,
    Match,
    Op,
    Right,
    Scalar,
    SetRef,
    Tuple,
    Verdict,
    masked,
)
from failshut.model.symbols import word_of
from failshut.read.constants import addresses, any_of, bits_of, constant, seconds, tests_bits
from failshut.read.nft.text.cursor import RULE_END, Cursor, NotUnderstoodError
from failshut.read.nft.text.tokens import NEW_LINE, parts
from failshut.read.nft.values import ANY_TYPE, between, plain, types_of, value_of

_OPERATORS = {
    "==": Op.EQ, "eq": Op.EQ, "!=": Op.NE, "ne": Op.NE, "<": Op.LT, "lt": Op.LT, ">": Op.GT, "gt": Op.GT, "<=": Op.LE, "le": Op.LE,
    ">=": Op.GE, "ge": Op.GE, "!": Op.NOT_IN,
}  # fmt: skip
_VERDICTS = {each.value: each for each in Verdict}
# What may stand behind an element and says nothing about what it matches.
_TRAITS = {"timeout": 1, "expires": 1, "comment": 1, "counter": 0, "packets": 1, "bytes": 1}
_Item = TypeVar("_Item")


def comparison(cursor: Cursor, left: Left) -> Match:
    """Read the operator and the right side of a match."""
    operator = _OPERATORS.get(cursor.here)
    if operator:
        cursor.at += 1
    types = types_of(left)
    if cursor.here.startswith("{"):
        listed = _addresses(cursor, types)
        right: Right = plain(AnySet(listed) if listed else any_of(elements(cursor, types)), left)
        return Match(left, right, operator or Op.EQ)
    if cursor.here.startswith("@"):
        return Match(left, SetRef(cursor.take()[1:]), operator or Op.EQ)
    if len(types) == 1 and tests_bits(types[0]):
        return _flags(cursor, left, types[0], operator)
    value = element(cursor, types)
    if isinstance(value, CatchAll):
        raise NotUnderstoodError("'*' where a value is due")
    return Match(left, plain(value, left), operator or Op.EQ)


def _flags(cursor: Cursor, left: Left, type_: str, operator: Op | None) -> Match:
    """Read a comparison with flags: a test of any of them, an equality with all, or (`syn / fin,syn`) one under a mask."""
    words = flag_list(cursor, type_)
    if cursor.accept("/"):
        mask = bits_of(flag_list(cursor, type_), type_)
        return Match(masked(left, mask), bits_of(words, type_), operator or Op.EQ)
    if isinstance(left, Binary):
        # Of arithmetic nft tests equality, whatever it is done with.
        return Match(left, bits_of(words, type_), operator or Op.EQ)
    if operator in (None, Op.NOT_IN):
        value = any_of(words)
        return Match(left, plain(value, left), operator or Op.IN)
    right = words[0] if len(words) == 1 else word_of(bits_of(words, type_), type_)
    return Match(left, right, operator or Op.EQ)


def flag_list(cursor: Cursor, type_: str, separators: tuple[str, ...] = (",", "|")) -> list[Scalar]:
    """Read flags between commas or bars, with or without parentheses."""
    words: list[Scalar] = []
    while True:
        closing = cursor.accept("(")
        words.append(constant(cursor.word(), type_))
        if closing:
            while not cursor.accept(")"):
                if not (cursor.accept("|") or cursor.accept(",")):
                    raise NotUnderstoodError(f"{cursor.here!r} where ')' is due")
                words.append(constant(cursor.word(), type_))
        if cursor.here not in separators:
            return words
        cursor.at += 1


def element(cursor: Cursor, types: tuple[str, ...]) -> Element:
    """Read a value of a key with parts of these types."""
    return _element(cursor, types, in_map=False)[0]


def _element(cursor: Cursor, types: tuple[str, ...], *, in_map: bool) -> tuple[Element, bool]:
    """Return a value, and whether the colon behind it stood in its last word and is taken."""
    if (cursor.here == "*" and len(types) == 1) or (cursor.here == "*" and cursor.ahead() != "."):
        cursor.at += 1
        return CatchAll(), False
    parts: list[Scalar] = []
    for index, type_ in enumerate(types):
        if index:
            cursor.expect(".")
        part, taken = _part(cursor, type_, in_map=in_map and index == len(types) - 1)
        parts.append(part)
        if taken:
            return _whole(parts), True
    return _whole(parts), False


def _whole(parts: list[Scalar]) -> Scalar | Tuple:
    return parts[0] if len(parts) == 1 else Tuple(tuple(parts))


def _part(cursor: Cursor, type_: str, *, in_map: bool) -> tuple[Scalar, bool]:
    if cursor.here == "(" or (tests_bits(type_) and cursor.ahead() == "|"):
        return word_of(bits_of(flag_list(cursor, type_, ("|",)), type_), type_), False
    quoted = cursor.here.startswith('"')
    text = cursor.word()
    if in_map and not quoted and ":" in text and (found := _cut(cursor, text, type_)) is not None:
        return found, True
    low = value_of(text, type_)
    if cursor.here == "-" and cursor.ahead() not in RULE_END:
        cursor.at += 1
        return between(low, value_of(cursor.word(), type_), type_), False
    return low, False


def _cut(cursor: Cursor, text: str, type_: str) -> Scalar | None:
    """Return the key of `80:accept`, leaving what is behind the colon as the next word; None when the colon is the key's own."""
    try:
        if type_ not in ("ifname", ANY_TYPE):
            value_of(text, type_)
            return None
    except ValueError:
        pass
    key, _, rest = text.rpartition(":")
    value = value_of(key, type_)
    if rest:
        cursor.at -= 1
        cursor.texts[cursor.at] = rest
    return value


def braced(cursor: Cursor, read: Callable[[], _Item]) -> list[_Item]:
    """Read `{ item, item }`; a set inside of it, as a variable may be one, gives its own items."""
    cursor.expect("{")
    found: list[_Item] = []
    depth = 1
    while True:
        while cursor.here in (NEW_LINE, ","):
            cursor.at += 1
        if cursor.accept("{"):
            depth += 1
        elif cursor.accept("}"):
            depth -= 1
            if not depth:
                return found
        else:
            found.append(read())
            if cursor.here not in (",", "}", NEW_LINE):
                raise NotUnderstoodError(f"{cursor.here!r} among the elements of a set")


def elements(cursor: Cursor, types: tuple[str, ...], ends: list[Ending] | None = None) -> list[Element]:
    """Read the elements of a set; those that have an end are noted in `ends`."""

    def one() -> Element:
        value = element(cursor, types)
        times = skip_traits(cursor)
        if ends is not None and times:
            left = times.get("expires")
            # An element with the set's own timeout is listed with nothing but the time that is left.
            ends.append(Ending(value, times.get("timeout", 0), left))
        return value

    return braced(cursor, one)


def _addresses(cursor: Cursor, types: tuple[str, ...]) -> tuple[Element, ...]:
    """Take a long list of addresses and nothing else, or nothing of it: it is one token, and such lists are read once."""
    text, at = cursor.here, cursor.at
    if text == "{":
        return ()
    found = addresses(text[2:-2], types[0]) if len(types) == 1 else None
    if found is None or len(found) == 1:
        # It stands for its parts.
        each = parts(text, cursor.offset)
        cursor.texts[at : at + 1], cursor.offsets[at : at + 1] = each.texts, each.offsets
        return ()
    cursor.at += 1
    return found


def skip_traits(cursor: Cursor) -> dict[str, int]:
    """Pass what an element has beside its value, its counter and its comment; return its times in seconds."""
    times: dict[str, int] = {}
    while cursor.here in _TRAITS:
        trait, words = cursor.here, _TRAITS[cursor.here] if cursor.ahead() not in RULE_END else 0
        if trait in ("timeout", "expires") and words and cursor.ahead() != "never":
            times[trait] = seconds(cursor.ahead())
        cursor.at += 1 + words
    return times


Mapping = tuple[Element, Scalar | Tuple | Verdict | Jump]


def mappings(cursor: Cursor, types: tuple[str, ...], data: tuple[str, ...]) -> list[Mapping]:
    """Read the elements of a map."""

    def one() -> Mapping:
        key, taken = _element(cursor, types, in_map=True)
        skip_traits(cursor)
        if not taken:
            _colon(cursor)
        return key, _data(cursor, data)

    return braced(cursor, one)


def _colon(cursor: Cursor) -> None:
    text = cursor.take()
    if text != ":" and text.startswith(":"):
        cursor.at -= 1
        cursor.texts[cursor.at] = text[1:]
    elif text != ":":
        raise NotUnderstoodError(f"{text!r} where ':' is due")


def _data(cursor: Cursor, types: tuple[str, ...]) -> Scalar | Tuple | Verdict | Jump:
    if types == ("verdict",):
        return verdict(cursor)
    value = _data_of_any(cursor) if types == (ANY_TYPE,) else element(cursor, types)
    skip_traits(cursor)
    if isinstance(value, CatchAll):
        raise NotUnderstoodError("'*' where a value is due")
    return value


def _data_of_any(cursor: Cursor) -> Scalar | Tuple:
    parts = [_part(cursor, ANY_TYPE, in_map=False)[0]]
    while cursor.accept("."):
        parts.append(_part(cursor, ANY_TYPE, in_map=False)[0])
    return _whole(parts)


def verdict(cursor: Cursor) -> Verdict | Jump:
    """Read a verdict."""
    word = cursor.word()
    if word in _VERDICTS:
        return _VERDICTS[word]
    if word in ("jump", "goto") and cursor.here != "{":
        return Jump(cursor.word(), word == "goto")
    raise NotUnderstoodError(f"{word!r} is no verdict")


def any_map(cursor: Cursor, key: Expression, data: tuple[str, ...] = (ANY_TYPE,)) -> AnyMap | SetRef:
    """Read the map behind `map` or `vmap`."""
    if cursor.here.startswith("@"):
        return SetRef(cursor.take()[1:])
    return AnyMap(tuple(dict(mappings(cursor, types_of(key), data)).items()))

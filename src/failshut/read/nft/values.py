"""What both of nft's formats do with constants: their types, by the expression beside them, and ranges of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from failshut.model.ruleset import AnySet, Binary, CatchAll, Concat, Element, Expression, Left, Opaque, Range, Right, Scalar
from failshut.model.symbols import WORDS, describe
from failshut.read.constants import BadValueError, address_span, as_number, constant, number, span

# The type of a constant that nothing tells the type of.
ANY_TYPE = ""


def inner_type(expression: Expression) -> str:
    """Return the type of what arithmetic is done with, or of the expression itself."""
    while isinstance(expression, Binary):
        expression = expression.left
    return ANY_TYPE if isinstance(expression, int | Opaque) else describe(expression)[0]


def types_of(expression: Expression) -> tuple[str, ...]:
    """Return the types of a key's parts."""
    parts = expression.parts if isinstance(expression, Concat) else (expression,)
    return tuple(inner_type(each) for each in parts)


def value_of(text: str, type_: str) -> Scalar:
    """Return the constant of a word; without a type, what it looks like. Raises ValueError."""
    if type_:
        return constant(text, type_)
    for reader in (number, lambda word: constant(word, "ipv4_addr"), lambda word: constant(word, "ipv6_addr")):
        try:
            return reader(text)
        except ValueError:
            continue
    low, dash, high = text.partition("-")
    return span(number(low), number(high)) if dash and low.isdecimal() and high.isdecimal() else text


def between(low: Scalar, high: Scalar, type_: str) -> Scalar:
    """Return the range between two constants of a type. Raises ValueError when there is none."""
    if isinstance(low, IPv4Address | IPv6Address) and isinstance(high, IPv4Address | IPv6Address):
        return address_span(low, high)
    if isinstance(low, str) and isinstance(high, str) and type_ not in WORDS:
        return Range(low, high)
    return span(as_number(low, type_), as_number(high, type_), type_)


def plain(value: Element | AnySet, left: Left) -> Right:
    """Return the right side of a comparison with `left`; under arithmetic as numbers. Raises ValueError when it is none."""
    if isinstance(value, CatchAll):
        raise BadValueError("a set that holds everything")
    if not isinstance(left, Binary):
        return value
    if isinstance(value, AnySet):
        return AnySet(tuple(_numbers(each, left) for each in value.elements))
    return _numbers(value, left)


def _numbers(value: Element, left: Left) -> Scalar:
    type_ = inner_type(left)
    if isinstance(value, Range):
        return span(as_number(value.low, type_), as_number(value.high, type_))
    if isinstance(value, int | str | IPv4Address | IPv6Address):
        return as_number(value, type_)
    raise BadValueError(f"{value} is no number")

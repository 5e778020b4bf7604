"""A user's mistake in one value, and what every reader of values needs to name it."""

from __future__ import annotations

from datetime import date, datetime, time
from enum import StrEnum
from typing import TypeVar

from failshut.model.finding import Code

Choice = TypeVar("Choice", bound=StrEnum)

# What TOML calls the types that Python names otherwise; bool stands before int because it is one.
_TYPE_WORDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a float"),
    (list, "an array"),
    (dict, "a table"),
    (datetime, "a date"),
    (date, "a date"),
    (time, "a time"),
)
_SHOWN = 60


class Mistake(ValueError):  # noqa: N818 - the user's mistake, not the program's error
    """A value that can't be used: the finding's `code`, what is wrong, and what to write instead (`help`)."""

    def __init__(self, code: Code, message: str, help: str = "") -> None:  # noqa: A002 - Finding's own word
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def shown(value: object) -> str:
    """Return what the user wrote, quoted, on one line, printable and short: it goes to a terminal."""
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value))
    return f"'{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}'"


def type_word(value: object) -> str:
    """Return what TOML calls the type of `value`."""
    return next((word for kind, word in _TYPE_WORDS if isinstance(value, kind)), "something else")


def wrong_type(wanted: str, value: object, help: str = "") -> Mistake:  # noqa: A002 - Finding's own word
    """Return the mistake of a value of another type."""
    return Mistake(Code.WRONG_TYPE, f"expected {wanted}, found {type_word(value)}", help)


def string(value: object, wanted: str = "a string") -> str:
    """Return a non-empty string without control characters."""
    if not isinstance(value, str):
        raise wrong_type(wanted, value, f'put it in quotes: "{value}"' if type(value) is int else "")
    if not value.strip():
        raise Mistake(Code.BAD_VALUE, f"expected {wanted}, found an empty one", "fill it in, or remove the key")
    if any(ord(each) < 32 or ord(each) == 127 for each in value):
        raise Mistake(Code.BAD_VALUE, "a control character can't stand here", "retype the value")
    return value


def choice(value: object, options: type[Choice]) -> Choice:
    """Return the member of `options` with that value."""
    words = ", ".join(f'"{each}"' for each in options)
    if not isinstance(value, str):
        raise wrong_type(f"one of {words}", value)
    for option in options:
        if option.value == value:
            return option
    lowered = next((each for each in options if each.value == value.strip().lower()), None)
    raise Mistake(
        Code.BAD_VALUE, f"{shown(value)} is none of {words}", f'did you mean "{lowered}"?' if lowered else f"use one of {words}"
    )

"""The templates, with escaping on for everything."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("failshut.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["grouped"] = grouped
    made.filters["plural"] = plural
    return made


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes of the values."""
    return _environment().get_template(template).render(**values)


def grouped(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def plural(number: int, word: str) -> str:
    """Return "1 attack", "2 attacks"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"

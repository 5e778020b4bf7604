"""The Debian package brings every library that the program asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import sources

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (REPOSITORY / "packaging/debian/vendor.txt").read_text(), re.MULTILINE))
# Debian's names that are not python3- and PyPI's.
_IN_DEBIAN = {"z3-solver": "python3-z3"}


@pytest.mark.parametrize("asked", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["tui"]])
def test_every_library_is_depended_on_or_pinned(asked):
    name, least = re.fullmatch(r"([a-zA-Z0-9-]+)>=([0-9.]+)", asked).groups()
    if name in PINNED:
        assert _number(PINNED[name]) >= _number(least)
    else:
        assert _IN_DEBIAN.get(name, f"python3-{name}") in sources.depended_on(), f"{name}: put it into debian/control or vendor.txt"


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))

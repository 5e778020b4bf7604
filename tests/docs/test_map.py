"""The map of the house (CONTRIBUTING.md) has every room, and what is called pure is held to it by `lint-imports`."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src/failshut"
ROWS = dict(re.findall(r"^\| `([\w/]+)/` \|.*\| (yes|no) \|$", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.MULTILINE))
CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PURE = {
    module.removeprefix("failshut.")
    for contract in CONTRACTS
    if "socket" in contract.get("forbidden_modules", ())
    for module in contract["source_modules"]
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def says_pure(path: Path) -> bool:
    return bool(re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or ""))


def test_every_room_is_on_the_map():
    """A folder with code in it."""
    assert set(ROWS) == {each.parent.name for each in SOURCE.glob("*/__init__.py")}


def test_a_room_is_pure_on_the_map_if_it_is_held_to_it():
    """Of a room that is not, single modules may be."""
    assert {room for room, pure in ROWS.items() if pure == "yes"} == {each for each in PURE if "." not in each}


def test_a_module_says_that_it_is_pure_if_it_is_held_to_it():
    """In a room that is pure no module needs to."""
    saying = {name_of(each) for each in SOURCE.rglob("*.py") if says_pure(each)}

    held = {each for each in saying if any(each == module or each.startswith(f"{module}.") for module in PURE)}
    assert saying == held, f"not held to it: {saying - held}"
    silent = {each for each in PURE if "." in each} - saying
    assert not silent, f"held to it, and silent: {silent}"


def imported(path: Path) -> set[tuple[str, str]]:
    """Return what a file imports of the house: module and name, also within functions."""
    found = (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.ImportFrom))
    return {(each.module, name.name) for each in found if (each.module or "").startswith("failshut") for name in each.names}


def test_what_stands_beside_the_house_finds_what_it_imports_of_it():
    """Tools and benchmarks are run seldom, and a module that moves takes nobody there with it."""
    files = [each for folder in ("tools", "benchmarks") for each in (REPOSITORY / folder).rglob("*.py")]
    asked = {(path, *each) for path in files for each in imported(path)}

    rooms = {f"failshut.{name_of(each)}" for each in SOURCE.rglob("*.py")}
    lost = {
        f"{path.name}: {module}.{name}"
        for path, module, name in asked
        if f"{module}.{name}" not in rooms and not hasattr(importlib.import_module(module), name)
    }
    assert asked
    assert not lost

"""The templates there are: each a folder of `ready/` with a `template.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from failshut.templates.answers import KINDS

MANIFEST = "template.toml"


@dataclass(frozen=True, slots=True)
class Question:
    """One answer that a template needs; without a `default` it must be given, unless it is `optional`."""

    name: str
    kind: str
    text: str
    default: str | None = None
    example: str = ""
    optional: bool = False

    @property
    def variable(self) -> str:
        """What the template's files call it."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a template makes: its `path` (itself a template) from `source`; with `each`, one for every name of that answer.

    `qr` says that a telephone may read it.
    """

    path: str
    source: str
    each: str = ""
    qr: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A folder, read. `keys` are whom a pair of keys is made for beside every name of an answer, which gets `pairs` of them.

    `next` is said at the end.
    """

    name: str
    title: str
    about: str
    questions: tuple[Question, ...]
    files: tuple[Made, ...]
    keys: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    pairs: int = 1

    @property
    def named(self) -> tuple[str, ...]:
        """The answers that are names of machines."""
        return tuple(each.variable for each in self.questions if each.kind == "names")


def folder() -> Traversable:
    """Return where the templates lie."""
    return files("failshut.templates").joinpath("ready")


@cache
def templates() -> dict[str, Template]:
    """Return every template by its name, in order."""
    found = sorted((each for each in folder().iterdir() if each.joinpath(MANIFEST).is_file()), key=lambda each: each.name)
    return {each.name: _read(each) for each in found}


def _read(where: Traversable) -> Template:
    """Read a manifest; a key that it may not have, or one that it lacks, is a TypeError of the constructor's."""
    given = tomllib.loads(where.joinpath(MANIFEST).read_text(encoding="utf-8"))
    asked = given.pop("ask", {})
    questions = tuple(Question(name, **each) for name, each in asked.items())
    for each in questions:
        if each.kind not in KINDS:
            raise TypeError(f"{where.name}: {each.kind!r} is no kind of answer; there are {', '.join(KINDS)}")
    made = tuple(Made(**each) for each in given.pop("file"))
    keys, following = tuple(given.pop("keys", ())), tuple(given.pop("next", ()))
    return Template(name=where.name, questions=questions, files=made, keys=keys, next=following, **given)

"""Validates a TOML tree even where parts of it are wrong: what is refused is cut out, and the rest checked in the same run."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from failshut.config.locate import Path
from failshut.config.schema import Document

# pydantic's last step into a bad key of a table, as opposed to the value under it.
KEY = "[key]"


class Mirror:
    """A copy of a tree's shape whose nodes remember their first path; cutting a list moves its indexes, this tells them back."""

    __slots__ = ("children", "path")

    def __init__(self, tree: Any, path: Path = ()) -> None:
        self.path = path
        self.children: dict[str | int, Mirror] | list[Mirror] = {}
        if isinstance(tree, dict):
            self.children = {name: Mirror(value, (*path, name)) for name, value in tree.items()}
        elif isinstance(tree, list):
            self.children = [Mirror(value, (*path, index)) for index, value in enumerate(tree)]

    def original(self, path: Path) -> Path:
        """Return what `path` was before anything was cut; a path that does not exist keeps its tail."""
        node = self
        for depth, step in enumerate(path):
            try:
                node = node.children[step]  # type: ignore[index]  # a step of the wrong kind is a TypeError, caught below
            except (KeyError, IndexError, TypeError):
                return (*node.path, *path[depth:])
        return node.path


def validate(tree: dict[str, Any]) -> tuple[Document, Mirror, list[Any], frozenset[Path]]:
    """Return the document of the sound part of `tree`, its mirror, pydantic's errors on the whole, and the paths cut out.

    `tree` is consumed. Only the first pass' errors are returned: what a cut itself breaks is no mistake of the user's.
    """
    # Of nothing: while nothing is cut, each path is its own original. A list of 100,000 prefixes would have as many mirrors.
    mirror = Mirror({})
    first: list[Any] | None = None
    cut: set[Path] = set()
    while True:
        try:
            return Document.model_validate(tree), mirror, first or [], frozenset(cut)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        if first is None:
            first, mirror = errors, Mirror(tree)
        targets = {_target(each) for each in errors}
        if () in targets:
            return Document(), mirror, first, frozenset({()})
        # From the back, so that cutting one item of a list leaves the indexes of those still to be cut.
        for path in sorted(targets, key=lambda each: [(isinstance(step, int), step) for step in each], reverse=True):
            cut.add(mirror.original(path))
            _cut(tree, mirror, path)


def _target(error: Any) -> Path:
    """Return what must go: the bad value itself, or the table that lacks a key."""
    path: Path = tuple(error["loc"])
    if path and path[-1] == KEY:
        return path[:-1]
    return path[:-1] if error["type"] == "missing" else path


def _cut(tree: Any, mirror: Mirror, path: Path) -> None:
    node, shadow = tree, mirror
    for step in path[:-1]:
        node, shadow = node[step], shadow.children[step]  # type: ignore[index]  # both have the shape pydantic walked
    del node[path[-1]]
    del shadow.children[path[-1]]  # type: ignore[arg-type]  # as above

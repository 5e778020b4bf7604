"""What is worked out of a long tuple, kept for that very tuple: to hash 100,000 prefixes takes longer than most that is asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, TypeVar

_Found = TypeVar("_Found")
# Shorter ones are hashed as fast as they are told apart.
_LONG, _KEPT = 64, 1024


class _This:
    """A key that is equal to no other tuple's; it keeps its tuple, so that no other gets the same identity."""

    __slots__ = ("it",)

    def __init__(self, it: tuple[Any, ...]) -> None:
        self.it = it

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _This) and other.it is self.it


def this(value: Any) -> Hashable:
    """Return a key for a value: for a long tuple one that no other has, be it equal or not."""
    return _This(value) if isinstance(value, tuple) and len(value) >= _LONG else value


def once(work: Callable[..., _Found]) -> Callable[..., _Found]:
    """Let a pure function be asked once for each long tuple, its first argument; the others are told apart by `this` too."""

    @lru_cache(_KEPT)
    def kept(*keys: Any) -> _Found:
        return work(*(each.it if isinstance(each, _This) else each for each in keys))

    @wraps(work)
    def asked(it: tuple[Any, ...], *others: Any) -> _Found:
        return kept(*map(this, (it, *others))) if len(it) >= _LONG else work(it, *others)

    return asked

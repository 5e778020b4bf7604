"""Which rules a run tries. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RuleSource(StrEnum):
    """Which rules the client runs: none, the guide's own, those of the user's file, or the compiled lock."""

    NONE = "none"
    GUIDE = "guide"
    BESIDE = "beside"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Loadable:
    """A file's text, or one family's part of it, and the command that takes it on standard input."""

    name: str
    command: tuple[str, ...]
    text: str

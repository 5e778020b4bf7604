"""Which rules a run tries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from failshut.model.ruleset import Ruleset


class RuleSource(StrEnum):
    """Which rules the client runs: none, the guide's own, those of the user's file, or the compiled lock."""

    NONE = "none"
    GUIDE = "guide"
    BESIDE = "beside"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class NftLock:
    """A lock as the text of one transaction of nft's."""

    text: str


@dataclass(frozen=True, slots=True)
class IptablesLock:
    """A lock as tables of iptables'; `kind` is the ending of the programs' names."""

    rules: Ruleset
    kind: str


@dataclass(frozen=True, slots=True)
class InlineLock:
    """A lock as lines of [Interface] in the tunnel's config: wg-quick loads it."""

    lines: tuple[str, ...]


Lock = NftLock | IptablesLock | InlineLock


@dataclass(frozen=True, slots=True)
class Loadable:
    """A file's text, or one family's part of it, and the command that takes it on standard input."""

    name: str
    command: tuple[str, ...]
    text: str

"""What a page says of where and when it was made. Pure: whoever writes the page asks the machine and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine a page was made on, in its own words, and the time."""

    kernel: str
    nft: str
    made: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Banner:
    """The verdict in one glance: `tone` is good, bad or unsure; a word; a sentence; and what it rests on, a line each."""

    tone: str
    word: str
    sentence: str
    lines: tuple[str, ...] = ()

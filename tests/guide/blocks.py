"""The fenced blocks of a page: what language, for which machine, and the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w+)(?: (?P<words>[^\n]*))?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: `sh laptop`, `sh laptop exits 12`, `toml laptop` (goes at the end of the policy), `sh skip WHY`."""

    page: str
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        """The machine it is for, or `skip`."""
        return self.words[0] if self.words else ""

    @property
    def code(self) -> int:
        """What it exits with."""
        return int(self.words[2]) if self.words[1:2] == ("exits",) else 0


def blocks(page: Path) -> Iterator[Block]:
    """Yield every block of a page, in order."""
    for found in _FENCE.finditer(page.read_text()):
        yield Block(page.name, found["language"], tuple((found["words"] or "").split()), found["text"])

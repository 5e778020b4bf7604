"""nft's text → the model: the kernel's listing and what people write by hand for `nft -f`, in one grammar.

Source: nft(8), and nft 1.0.6 where the page is silent. What is not understood becomes unknown and is noted; what is no nft at all
is a finding. The tokens are read once, from left to right (`cursor`); blocks fill a `draft` that commands may change again.
"""

from __future__ import annotations

from dataclasses import replace

from failshut.model.ruleset import Ruleset
from failshut.read.links import broken_links
from failshut.read.nft_text.commands import commands
from failshut.read.nft_text.cursor import Cursor
from failshut.read.nft_text.draft import Draft
from failshut.read.nft_text.tokens import Source, tokenize
from failshut.read.reading import Reading

__all__ = ["read_text"]


def read_text(text: str, name: str) -> Reading:
    """Return the ruleset that a text makes when it is loaded into a kernel without rules. Never raises."""
    source = Source(name, text)
    tokens = tokenize(source)
    cursor = Cursor(source, tokens.texts, tokens.offsets)
    draft = Draft()
    commands(cursor, draft)
    ruleset: Ruleset = draft.ruleset()
    findings = (*source.findings, *broken_links(ruleset))
    findings = tuple(sorted(findings, key=lambda each: (each.place.line, each.place.column)))
    return replace(Reading(ruleset), findings=findings, approximations=tuple(cursor.approximations))

"""nft's text → the model: the kernel's listing and what people write by hand for `nft -f`, in one grammar.

Source: nft(8), and nft 1.0.6 where the page is silent. What is not understood becomes unknown and is noted; what is no nft at all
is a finding. The tokens are read once, from left to right (`cursor`); blocks fill a `draft` that commands may change again.
"""

from __future__ import annotations

from dataclasses import replace

from failshut.model.ruleset import Chain, Family, Rule, Unknown
from failshut.read.memory import nothing_to_collect
from failshut.read.nft.links import broken_links
from failshut.read.nft.meaning import with_dynamic_sets
from failshut.read.nft.source import Source, printable
from failshut.read.nft.text.commands import commands
from failshut.read.nft.text.cursor import Cursor
from failshut.read.nft.text.draft import Draft
from failshut.read.nft.text.statements import rule
from failshut.read.nft.text.tokens import tokenize
from failshut.read.reading import Approximation, Reading

__all__ = ["read_rule", "read_text"]


def read_text(text: str, name: str) -> Reading:
    """Return the ruleset that a text makes when it is loaded into a kernel without rules. Never raises."""
    source = Source(name, text)
    with nothing_to_collect():
        tokens = tokenize(source)
    cursor = Cursor(source, tokens.texts, tokens.offsets)
    draft = Draft()
    with nothing_to_collect():
        commands(cursor, draft)
    ruleset = with_dynamic_sets(draft.ruleset())
    findings = (*source.findings, *broken_links(ruleset))
    findings = tuple(sorted(findings, key=lambda each: (each.place.line, each.place.column)))
    return replace(Reading(ruleset), findings=findings, approximations=tuple(cursor.approximations))


def read_rule(text: str, name: str, family: Family, anonymous: int = 0) -> tuple[Rule, list[Chain], list[Approximation]]:
    """Return one rule, the chains that stand within it, and what was not understood. `anonymous` such chains are known already."""
    source = Source(name, text)
    tokens = tokenize(source)
    cursor = Cursor(source, tokens.texts, tokens.offsets, family=family)
    cursor.anonymous = [Chain("")] * anonymous
    found = rule(cursor)
    if source.findings or cursor.here or not found.statements:
        whole = Rule((Unknown(printable(text)),))
        return whole, [], [Approximation(printable(text), "it may do anything", source.place(0))]
    return found, cursor.anonymous[anonymous:], cursor.approximations

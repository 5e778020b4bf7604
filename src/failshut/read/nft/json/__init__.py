"""`nft -j list …` → the model. What it does not understand is kept as unknown, never guessed.

nft's JSON is not the whole truth: measured, 1.0.6 prints a dormant (switched-off) table's flags as the release's name, and leaves
out the devices of netdev chains, that a set is dynamic, and at which level a control group is meant. The running kernel is read
from its text listing: whoever trusts JSON alone takes a switched-off lock for a live one.
Source: libnftables-json(5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from failshut.model.finding import Code, Finding
from failshut.model.ruleset import Ruleset
from failshut.read.nft.json.objects import Entry, tables_of
from failshut.read.nft.links import broken_links
from failshut.read.nft.meaning import with_dynamic_sets
from failshut.read.nft.source import Source
from failshut.read.reading import Approximation, Reading

_HEAD = re.compile(r'\s*\{\s*"nftables"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def read_json(text: str, name: str) -> Reading:
    """Return the ruleset of a JSON listing, as far as it can be read. Never raises."""
    source = Source(name, text)
    noted: list[Approximation] = []
    ruleset = with_dynamic_sets(Ruleset(tables_of(list(_entries(source)), source, noted)))
    findings: tuple[Finding, ...] = (*source.findings, *broken_links(ruleset))
    return Reading(ruleset, findings, tuple(noted))


def _entries(source: Source) -> Iterator[Entry]:
    """Yield the objects of a listing one by one, so that half of one is read as far as it goes."""
    text, decoder = source.text, json.JSONDecoder()
    head = _HEAD.match(text)
    if not head:
        source.error(Code.RULES_SYNTAX, 'it does not begin with {"nftables": [', 0)
        return
    at = head.end()
    while True:
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
        if text.startswith("]", at):
            return
        try:
            found, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            source.error(Code.RULES_SYNTAX, f"the listing breaks off here: {error.msg}", error.pos)
            return
        except (RecursionError, ValueError):
            source.error(Code.RULES_SYNTAX, "an object that no listing has", at)
            return
        match found:
            case dict() if len(found) == 1 and isinstance(next(iter(found.values())), dict):
                ((kind, body),) = found.items()
                yield Entry(kind, body, at, text[at:end])
            case _:
                source.error(Code.RULES_SYNTAX, "an object that no listing has", at)
        at = end

"""A tool's text → the model. Never imports the compiler, so that what is read back can't repeat its mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failshut.read.reading import Reading


def read_ruleset(text: bytes, name: str) -> Reading:
    """Return the ruleset of a file, by what its text looks like: nft's text, nft's JSON, or a save of iptables.

    Never raises: what can't be read is a finding, with a place in the file `name`.
    """
    # Three grammars: every other verb does without them.
    from failshut.read.files.recognise import recognised  # noqa: PLC0415

    return recognised(text, name)


def read_rulesets(texts: Sequence[tuple[str, bytes]]) -> list[Reading]:
    """Return the ruleset of each of one machine's files, (name, text), as `read_ruleset` does; its ipsets are known to all."""
    from failshut.read.files.recognise import all_recognised  # noqa: PLC0415 - as above

    return all_recognised(texts)

"""Every packet filter rule that the running kernel holds, in the text of the tools that list it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from failshut.host.run import Result, find, run

# The two engines list apart; plain `iptables-save` is a name for one of them.
_SAVES = (
    ("iptables-nft-save", "ip"),
    ("ip6tables-nft-save", "ip6"),
    ("iptables-legacy-save", "ip"),
    ("ip6tables-legacy-save", "ip6"),
)

# nft names the line and the columns of what it stumbled over.
_SYNTAX = re.compile(r"^[^\n]*?:(\d+):(\d+)-\d+: Error: (syntax error[^\n]*)", re.MULTILINE)


class RulesError(Exception):
    """A tool that did not answer."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.err.strip() or " ".join(result.argv))
        self.permission = "permitted" in result.err.lower() or "permission" in result.err.lower()


@dataclass(frozen=True, slots=True)
class RunningRules:
    """`nft` is `nft list ruleset`, with the time that elements have left.

    `saves` are (command, family, text) of each iptables-save that this machine has; `ipsets` is what `ipset save` prints, None
    where nobody could ask.
    """

    nft: str
    saves: tuple[tuple[str, str, str], ...]
    ipsets: str | None = None


def running_rules() -> RunningRules:
    """Ask nft, every iptables-save that is installed, and ipset. Raises `RulesError`."""
    listed = run(["nft", "list", "ruleset"])
    if not listed.ok:
        raise RulesError(listed)
    saves = []
    for command, family in _SAVES:
        if find(command) is None:
            continue
        saved = run([command])
        if not saved.ok:
            raise RulesError(saved)
        saves.append((command, family, saved.out))
    dumped = run(["ipset", "save"]) if find("ipset") else None
    return RunningRules(listed.out, tuple(saves), dumped.out if dumped and dumped.ok else None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Where nft stopped reading a text (counted from 1), and what it said."""

    line: int
    column: int
    words: str


def nft_refusal(text: bytes) -> Refusal | None:
    """Ask this machine's nft whether it can read a text at all; None where it can, or can't be asked.

    It is asked in a network namespace of its own. What else it finds wrong, such as an interface that is not there, is no matter.
    """
    if os.geteuid() != 0:
        return None
    answer = run(["unshare", "--net", "nft", "--check", "--file", "-"], stdin=text)
    found = None if answer.ok else _SYNTAX.search(answer.err)
    return Refusal(int(found[1]), int(found[2]), found[3]) if found else None

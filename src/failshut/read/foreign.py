"""What people hand over that is no ruleset: what it is, by its looks, and what to give instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAVED = "give what `iptables-save`, `ip6tables-save` and `nft list ruleset` print"
_LOADED = f"`failshut audit --run FILE` runs it in namespaces of its own; or load it, then {_SAVED}"
# A command, as it stands in a script, in a guide or after a prompt. No line of a ruleset begins so.
_COMMAND = (
    r"^[ \t]*(?:[$>][ \t]+)?(?:(?:sudo|doas)[ \t]+)?(?:/\S{1,60}/)?(?:"
    r"(?:ip6?tables(?:-(?:nft|legacy))?(?:-restore)?|nft|ufw|firewall-cmd|ipset)[ \t]+\S"
    r"|\$\{?\w+\}?[ \t]+(?:-\w|add|insert|delete|flush)\b)"
    # Or what goes into one.
    r"|^[^#\n]*\|[ \t]*(?:sudo[ \t]+)?(?:/\S{1,60}/)?(?:nft[ \t]+(?:-f|--file)|ip6?tables-restore)\b"
)
# What only a shell has a meaning for: a function, what a command prints, one command after another.
_SHELL = r"^[ \t]*[\w-]+[ \t]*\(\)[ \t]*\{|^[^#\n\"]*(?:\$\(|\|\||&&|;[ \t]*(?:then|do)\b)"
# Where a text begins, but for comments.
_FIRST = r"\A(?:[ \t]*(?:#.*)?\n)*[ \t]*"
# What a text is shows where it begins; in characters.
_LOOKED_AT = 1 << 16


@dataclass(frozen=True, slots=True)
class Foreign:
    """A text of another kind: what it is, in a sentence, where that is seen, the remedy, and whether rules come of running it."""

    what: str
    offset: int
    help: str
    runs: bool


_UP, _STARTED = (_LOADED.replace("load it", each) for each in ("bring the tunnel up", "start it"))
_PARTIAL = f"it is one table, and without -v it leaves devices out; {_SAVED}"
_KINDS: tuple[tuple[str, str, str], ...] = (
    (r"\A#!(?!.*\b(?:nft|ip6?tables-restore)\b)", "this is a script", _LOADED),
    (r"\A\s*<(?:\?xml|!--|\w)", "this is XML, such as firewalld's own rules", f"where firewalld runs, {_SAVED}"),
    (r"^[ \t]*\[(?:Interface|Peer)\][ \t]*$", "this is a tunnel's config", _UP),
    (r"^[ \t]*(?:Pre|Post)(?:Up|Down)[ \t]*=", "these are lines of a tunnel's config", _UP),
    (r"^[ \t]*\[(?:Unit|Service)\][ \t]*$", "this is a unit of systemd", _STARTED),
    (
        r"^config +(?:defaults|zone|rule|forwarding)\b",
        "this is OpenWrt's configuration",
        "give what `nft list ruleset` prints there",
    ),
    (r"^Status: (?:in)?active\b", "this is what `ufw status` prints", f"it leaves ufw's own rules out; {_SAVED}"),
    (r"^Chain \S+ \((?:policy|\d+ ref)", "this is a listing of `iptables -L`", _PARTIAL),
    (
        r"(?s)\A(?!.*^:OUTPUT\b).*?^:ufw6?-(?:before|after|user)-(?:in|out)put\b",
        "these are rules that ufw hangs into its own, such as its before.rules",
        f"they hold nothing by themselves: where ufw runs, {_SAVED}",
    ),
    (
        # nft's own verdicts are small.
        r"^[^#\"\n]*\bpolicy[ \t]+(?:DROP|ACCEPT|REJECT)[ \t]*;",
        "this is ferm's configuration",
        "give what `ferm --noexec --lines FILE` prints, or, where it runs, what `iptables-save` and `ip6tables-save` do",
    ),
    (
        r"^create \S+ (?:hash|bitmap|list):",
        "this is what `ipset save` prints",
        "give the rules that use its sets beside it",
    ),
    (
        rf"{_FIRST}chain[ \t]+\S+[ \t]*\{{",
        "this is a chain without its table",
        f"what other chains do is not in it; {_SAVED}",
    ),
    (
        rf"{_FIRST}(?:(?:meta[ \t]+)?[io]if(?:name)?|ct[ \t]+state|ip6?[ \t]+[sd]addr|(?:udp|tcp|th)[ \t]+[sd]port)[ \t]+\S",
        "these are rules without their chain",
        f"what its policy is, and what other chains do, is not in it; {_SAVED}",
    ),
    (rf"{_FIRST}\{{[^{{}}\n]*\}}[ \t]*:", "this is a module of NixOS", f"where it is switched to, {_SAVED}"),
    (r"^-[ \t]+(?:name|hosts):[ \t]", "these are tasks of Ansible", f"where they have run, {_SAVED}"),
    (r"^services:[ \t]*$", "this is a file of Docker Compose", f"start it, then in the container {_SAVED}"),
    (_COMMAND, "these are commands, and not the rules that they make", _LOADED),
    (_SHELL, "this is a script without its first line", _LOADED),
    (r"^[ \t]*```", "this is a page with something fenced in it", f"give the rules in it alone; or {_SAVED.removeprefix('give ')}"),
)
_PATTERNS = tuple((re.compile(pattern, re.MULTILINE), what, help_) for pattern, what, help_ in _KINDS)


def foreign(text: str) -> Foreign | None:
    """Return what a text is, when it is no ruleset at all; None for a ruleset, and for what nobody knows."""
    # Windows' ends of lines are as long here.
    start = text[:_LOOKED_AT].replace("\r\n", " \n")
    for pattern, what, help_ in _PATTERNS:
        if found := pattern.search(start):
            return Foreign(what, found.start(), help_, "--run" in help_)
    return None

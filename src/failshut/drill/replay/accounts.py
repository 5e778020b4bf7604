"""Accounts for the users and groups that a ruleset names, with the numbers that the audit takes for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from failshut.audit.netfilter.words import account_number
from failshut.drill.network import netns

_PLACE = Path("/run/failshut-accounts")
_FILES = {"passwd": "{name}:x:{number}:{number}::/:/bin/false\n", "group": "{name}:x:{number}:\n"}


def give_accounts(names: Sequence[str]) -> None:
    """Let these names be found in /etc, in the calling job's own mount namespace: a tool looks them up when it loads the rules."""
    for file, line in _FILES.items() if names else ():
        known = Path("/etc", file).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        others = [each for each in known if each.partition(":")[0] not in names]
        own = [line.format(name=each, number=account_number(each)) for each in names]
        _PLACE.mkdir(exist_ok=True)
        (_PLACE / file).write_text("".join((*own, *others)), encoding="utf-8")
        netns.mount(str(_PLACE / file), f"/etc/{file}", "", netns.MS_BIND)

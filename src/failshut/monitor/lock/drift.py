"""Who changed the rules, and what: the kernel's word, and what /proc knows of the process while it still runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from failshut.host.network.doorbells import Change, Transaction
from failshut.read.visible import plain

# The number of the first PID namespace (linux/proc_ns.h): the kernel counts processes there.
_FIRST_NAMESPACE = "pid:[4026531836]"
_MOST_SHOWN = 200
_UNKNOWN = {"process": "an unknown process", "pid": "0"}


@dataclass(slots=True)
class Drift:
    """A change that was heard of and is not judged yet. `began` and `restored` in seconds of the monotonic clock.

    `lines` say what is otherwise; `removed` that a whole table went, and what it knew with it.
    """

    began: float
    author: dict[str, str] = field(default_factory=lambda: dict(_UNKNOWN))
    lines: tuple[str, ...] = ()
    removed: bool = False
    restored: float | None = None
    tries: int = 0


def describe(transaction: Transaction, proc: Path = Path("/proc")) -> dict[str, str]:
    """Return what is known of who made it: `process`, `pid`, and `command` and `uid` when it is still there."""
    known = {"process": plain(transaction.name) or "unknown", "pid": str(transaction.pid)}
    home = proc / str(transaction.pid)
    try:
        if str((proc / "self/ns/pid").readlink()) != _FIRST_NAMESPACE:
            return known
        if (home / "comm").read_text(errors="replace").strip() != transaction.name:
            return known
        command = (home / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        uid = next(line.split()[1] for line in (home / "status").read_text().splitlines() if line.startswith("Uid:"))
    except (OSError, StopIteration):
        return known
    return {**known, "command": plain(command[:_MOST_SHOWN]), "uid": uid}


def uneven(changes: Mapping[Change, int], table: str) -> dict[Change, int]:
    """Return what a transaction did to the rules of a table's chains beyond replacing them, with how many more.

    Not under IP, where a device that came adds a chain: that is looked at.
    """
    rules = {each for each in changes if each.what == "rule" and each.table == table and each.family != "netdev"}
    more = {each: changes[each] - changes.get(_other(each), 0) for each in rules}
    return {each: number for each, number in more.items() if number > 0}


def describe_changes(odd: Mapping[Change, int]) -> Iterator[str]:
    """Yield a line for each chain that has more or fewer rules."""
    words = {"new": "added", "delete": "removed"}
    yield from (
        f"chain {each.name}: {number} rule(s) {words[each.verb]}"
        for each, number in sorted(odd.items(), key=lambda each: each[0].name)
    )


def _other(change: Change) -> Change:
    return replace(change, verb="delete" if change.verb == "new" else "new")

"""Which process changed the rules: the kernel's word, and what /proc knows of it while it still runs."""

from __future__ import annotations

from pathlib import Path

from failshut.host.doorbells import Transaction

# The number of the first PID namespace (linux/proc_ns.h): the kernel counts processes there.
_FIRST_NAMESPACE = "pid:[4026531836]"
_MOST_SHOWN = 200


def describe(transaction: Transaction, proc: Path = Path("/proc")) -> dict[str, str]:
    """Return what is known of who made it: `process`, `pid`, and `command` and `uid` when it is still there."""
    known = {"process": transaction.name or "unknown", "pid": str(transaction.pid)}
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
    return {**known, "command": command[:_MOST_SHOWN], "uid": uid}

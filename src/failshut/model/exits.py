"""The exit codes, declared once; the CLI, the docs and the tests read them here."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What `failshut` answers to the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DISARMED = 3
    UNKNOWN = 4
    CHANGES = 10
    DRIFT = 11
    LEAK = 12
    DRILL_FAILED = 13


MEANING: dict[Exit, str] = {
    Exit.OK: "done; the lock is armed and as it should be",
    Exit.FAILED: "it could not be done; the previous state was left as it was",
    Exit.USAGE: "wrong usage, or the policy has errors",
    Exit.DISARMED: "the lock is disarmed",
    Exit.UNKNOWN: "not permitted, or the state can't be known",
    Exit.CHANGES: "arming would change something (plan --exit-code)",
    Exit.DRIFT: "the kernel's rules differ from the armed ones",
    Exit.LEAK: "a leak was found",
    Exit.DRILL_FAILED: "the drill saw a leak, or something that should work does not",
}

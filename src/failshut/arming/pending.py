"""An arming that nobody has confirmed yet: a timer of systemd's undoes it, whatever becomes of the program that set it.

What the timer runs is a shell script with the commands spelled out, and the texts it needs beside it, all under /run: it asks for
no Python, no policy and no network, and a reboot forgets it together with the rules.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from failshut.arming.armed.record import Pending, load_pending
from failshut.arming.backends import Listing, backend
from failshut.arming.boot.generations import CURRENT, pointed
from failshut.arming.boot.install import tell_guard
from failshut.arming.errors import ArmingError
from failshut.boot.artefacts import router
from failshut.boot.places import ARMING_LOCK, GUARD_HOLD, LOADER, PENDING_FILE, PENDING_LINK, REVERT_DIRECTORY, RUN_DIRECTORY
from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE, remove_tree, write_atomically
from failshut.host.service import systemd
from failshut.model.plan import Plan

REVERT_UNIT = "failshut-revert"


def schedule(plan: Plan, before: Listing, generation: Path, seconds: int, undo: contextlib.ExitStack) -> None:
    """Have everything undone in `seconds`, from before the first change on. Raises `ArmingError`."""
    pending = Pending(generation.name, int(time.monotonic()) + seconds)
    undo.callback(forget)
    try:
        REVERT_DIRECTORY.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        back = backend(plan.backend).way_back(plan.wanted, before, REVERT_DIRECTORY)
        for name, text in back.files.items():
            write_atomically(REVERT_DIRECTORY / name, text, mode=PRIVATE_FILE)
        for number, change in enumerate((*plan.configs, *plan.shared)):
            write_atomically(REVERT_DIRECTORY / f"config-{number}", change.before or "", mode=PRIVATE_FILE)
        write_atomically(REVERT_DIRECTORY / "route", router().text, mode=PRIVATE_FILE)
        write_atomically(REVERT_DIRECTORY / "run", "\n".join(_script(plan, generation, back.commands)) + "\n", mode=PRIVATE_FILE)
        write_atomically(PENDING_FILE, pending.to_json(), mode=PRIVATE_FILE)
    except OSError as error:
        raise ArmingError(f"{REVERT_DIRECTORY} can't be written: {error.strerror}") from error
    systemd.cancel(REVERT_UNIT)
    result = systemd.schedule(REVERT_UNIT, seconds, ["/bin/sh", str(REVERT_DIRECTORY / "run")])
    if not result.ok:
        raise ArmingError(f"systemd sets no timer to undo it: {result.complaint}", help="--confirm-within 0 arms without one")


def take_over(generation: Path, undo: contextlib.ExitStack) -> None:
    """Have the loader and the guard know of the lock that waits: what puts a lock back meanwhile puts this one back."""
    undo.callback(tell_guard)
    undo.callback(PENDING_LINK.unlink, missing_ok=True)
    PENDING_LINK.unlink(missing_ok=True)
    PENDING_LINK.symlink_to(generation)
    tell_guard()


def forget() -> None:
    """Take the timer back, and what it would have run."""
    systemd.cancel(REVERT_UNIT)
    PENDING_FILE.unlink(missing_ok=True)
    PENDING_LINK.unlink(missing_ok=True)
    remove_tree(REVERT_DIRECTORY)
    with contextlib.suppress(OSError):
        # The guard's directory may be in it.
        RUN_DIRECTORY.rmdir()


def waiting() -> Pending:
    """Return the arming that waits. Raises `ArmingError` when none does."""
    pending = load_pending()
    if pending is None:
        raise ArmingError("no arming waits to be confirmed", help="`failshut status` says what is armed")
    return pending


def _script(plan: Plan, generation: Path, back: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines that undo `plan`: each goes on where another fails."""
    was_armed = pointed(generation.parent, CURRENT) is not None
    yield "#!/bin/sh"
    yield "# Written by `failshut arm --confirm-within`: puts everything back as it was. Run by failshut-revert.timer."
    yield "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    # An arming, a confirmation or a disarming that is at work right now comes first; one that was stopped (Ctrl-Z) goes on.
    yield f"exec 9>{ARMING_LOCK}"
    yield "until flock -w 3 9; do"
    yield f'for file in /proc/[0-9]*/fd/*; do [ ! "$file" -ef {ARMING_LOCK} ] || echo "$file"; done |'
    yield "cut -d/ -f3 | xargs kill -CONT"
    yield "done"
    yield f"[ -e {PENDING_FILE} ] || exit 0"
    yield "echo '<4>failshut: nobody confirmed; everything is put back as it was' >&2"
    yield f"rm -f {PENDING_LINK}"
    yield from back
    yield f"[ ! -p {GUARD_HOLD} ] || /bin/sh {LOADER} reguard"
    if plan.routes is not None:
        armed = f"apply {generation.parent / CURRENT}" if was_armed else "clear"
        yield f"sh {REVERT_DIRECTORY}/route {armed}"
    for number, change in enumerate((*plan.configs, *plan.shared)):
        if change.before is None:
            yield f"rm -f {shlex.quote(change.path)}"
            continue
        path, beside = shlex.quote(change.path), shlex.quote(f"{change.path}.failshut-revert")
        yield f"cp -p {path} {beside} && cat {REVERT_DIRECTORY}/config-{number} >{beside} && mv {beside} {path}"
    for mark in plan.marks:
        yield f"wg set {shlex.quote(mark.interface)} fwmark {mark.before or 'off'}"
    for setting in plan.sysctls:
        yield f"echo {shlex.quote(setting.before)} >/proc/sys/{setting.path}"
    # Without a lock before, nothing of this one stays; else only what the next boot loads.
    gone = generation if was_armed else generation.parent
    yield f'[ "$(readlink {generation.parent / CURRENT})" = {generation.name} ] || rm -rf {shlex.quote(str(gone))}'
    yield f"rm -rf {PENDING_FILE} {REVERT_DIRECTORY} && rmdir {RUN_DIRECTORY} 2>/dev/null || :"

"""Programs outside the tunnel: checks that the armed lock lets them, then becomes the program (docs/adr/0008)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NoReturn

from failshut.allowances.errors import RefusedError
from failshut.allowances.launch import Start, command_line, ready_slice
from failshut.arming.armed.status import read_status
from failshut.arming.errors import NOT_BY_IPTABLES, USE_NFTABLES
from failshut.host.filter import programs
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.model.lock import LockState
from failshut.model.timed import OUTSIDE_PROGRAMS

_HELP = "write [outside] into the policy, look with `failshut plan`, then `failshut arm`"


def run_outside(start: Start, argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become `argv`, outside the tunnel. Raises `RefusedError` while nothing was started."""
    _must_be_found(argv[0], environment)
    let_out(start.slice)
    line = command_line(start, argv)
    try:
        os.execve(line[0], line, dict(environment))  # noqa: S606 - it becomes the program: nobody stands between
    except OSError as error:
        raise RefusedError(f"{line[0]} can't be run: {error.strerror}") from error


def let_out(unit: str) -> None:
    """See that the kernel lets out what runs in a slice. Raises `RefusedError`."""
    if programs.listed(OUTSIDE_PROGRAMS) is None:
        raise why_not("the armed lock lets no program outside", _HELP)
    name = ready_slice(unit)
    known = {each.value for each in programs.listed(OUTSIDE_PROGRAMS) or ()}
    if name in known:
        return
    # A bare number is a group that is gone.
    others = sorted(each for each in known if not each.isdecimal())
    if others:
        raise RefusedError(
            f"the armed lock lets out {', '.join(others)}, not {unit}", help="`failshut arm` loads the policy as it is"
        )
    added = programs.admit([(OUTSIDE_PROGRAMS, programs.group(name))])
    if not added.ok:
        raise RefusedError(f"the kernel does not take {name}: {added.complaint}")


def why_not(missing: str, help: str) -> RefusedError:  # noqa: A002 - as in Finding
    """Return why the kernel has none of our lists: no privilege, no lock, or a lock that was armed without (`missing`, `help`)."""
    status = read_status()
    if status.state is LockState.UNKNOWN:
        return RefusedError(status.reason, help="run it with sudo", exit_code=Exit.UNKNOWN)
    if not status.listing.tables:
        return RefusedError(
            "the lock is disarmed: nothing is kept inside", help="`failshut arm` turns it on", exit_code=Exit.DISARMED
        )
    if status.record and status.record.backend == BackendName.IPTABLES:
        # It has no sets that the kernel empties, and knows no program by its control group.
        return RefusedError(NOT_BY_IPTABLES, help=USE_NFTABLES)
    return RefusedError(missing, help=help)


def _must_be_found(program: str, environment: Mapping[str, str]) -> None:
    if shutil.which(program, path=environment.get("PATH")) is None:
        raise RefusedError(f"{program}: there is no such program")

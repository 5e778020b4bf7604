"""How this very program is run: for the units that run it again."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

_NAME = "failshut"
# What the monitor's unit may not see, so that it can't run from there.
_HOMES = (Path("/home"), Path("/root"))
_OTHERS_MAY_WRITE = 0o022
# Where systemd looks for a program that is named without its directory (systemd.exec(5), "ExecStart=").
_SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def own_command() -> str:
    """Return a command line for a unit: the plain name where systemd finds it, else this interpreter with this package."""
    if any(Path(each, _NAME).exists() for each in _SEARCHED):
        return _NAME
    beside = Path(sys.executable).with_name(_NAME)
    return str(beside) if beside.exists() else f"{sys.executable} -m {_NAME}"


def why_no_unit(command: str) -> str:
    """Return why a unit of root must not run this command: others could change it, or the unit can not see it. "" where it may."""
    program = Path(command.split(maxsplit=1)[0])
    if not program.is_absolute():
        return ""
    if any(home in program.parents for home in _HOMES):
        return f"{program} is in somebody's home"
    open_to_others = (each for each in (program, *program.parents) if not _is_roots_alone(each))
    return next((f"{each} is not root's alone" for each in open_to_others), "")


def _is_roots_alone(path: Path) -> bool:
    found = path.stat()
    # In a directory with the sticky bit nobody takes away what is another's.
    return found.st_uid == 0 and (bool(found.st_mode & stat.S_ISVTX) or not found.st_mode & _OTHERS_MAY_WRITE)

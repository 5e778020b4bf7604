"""How this very program is run: for the units that run it again."""

from __future__ import annotations

import sys
from pathlib import Path

_NAME = "failshut"
# Where systemd looks for a program that is named without its directory (systemd.exec(5), "ExecStart=").
_SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def own_command(searched: tuple[str, ...] = _SEARCHED) -> str:
    """Return a command line for a unit: the plain name where systemd finds it, else this interpreter with this package."""
    if any(Path(each, _NAME).exists() for each in searched):
        return _NAME
    beside = Path(sys.executable).with_name(_NAME)
    return str(beside) if beside.exists() else f"{sys.executable} -m {_NAME}"

"""How a failure of the engine leaves the program."""

from __future__ import annotations

from typing import NoReturn

from failshut.arming.errors import ArmingError
from failshut.cli.session import Failure
from failshut.model.exits import Exit


def leave(error: ArmingError) -> NoReturn:
    """Turn an arming failure into the program's exit: what happened, the remedy, the code."""
    raise Failure(str(error), help=error.help, exit_code=Exit.UNKNOWN if error.permission else Exit.FAILED) from error

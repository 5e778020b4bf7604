"""How a failure of the engine leaves the program."""

from __future__ import annotations

from typing import NoReturn

from failshut.allowances.errors import RefusedError
from failshut.arming.errors import ArmingError, LeakError, UndecidedError
from failshut.cli.session import Failure
from failshut.model.exits import Exit


def refuse(error: RefusedError) -> NoReturn:
    """Turn the refusal of an allowance into the program's exit."""
    raise Failure(str(error), help=error.help, exit_code=error.exit_code) from error


def leave(error: ArmingError) -> NoReturn:
    """Turn an arming failure into the program's exit: what happened, the remedy, the code."""
    raise Failure(str(error), help=error.help, exit_code=_code(error)) from error


def _code(error: ArmingError) -> Exit:
    if isinstance(error, LeakError):
        return Exit.LEAK
    return Exit.UNKNOWN if error.permission or isinstance(error, UndecidedError) else Exit.FAILED

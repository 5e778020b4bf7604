"""How an allowance is refused: what stands in its way, and what to do."""

from __future__ import annotations

from failshut.model.exits import Exit


class RefusedError(Exception):
    """The allowance can't be given; nothing was opened. The message says why, `help` what to do, `exit_code` how to leave."""

    def __init__(self, message: str, *, help: str = "", exit_code: Exit = Exit.FAILED) -> None:  # noqa: A002 - as in Finding
        super().__init__(message)
        self.help = help
        self.exit_code = exit_code

"""How the server's verbs fail: before anything is changed, or with everything put back."""

from __future__ import annotations

from collections.abc import Sequence

from failshut.model.exits import Exit
from failshut.model.finding import Finding


class ServerError(Exception):
    """What is wrong, and what to do about it (`help`). `findings` are those of a config."""

    def __init__(
        self,
        message: str,
        help: str = "",  # noqa: A002 - the finding's word
        *,
        code: Exit = Exit.FAILED,
        findings: Sequence[Finding] = (),
    ) -> None:
        super().__init__(message)
        self.help = help
        self.code = code
        self.findings = tuple(findings)

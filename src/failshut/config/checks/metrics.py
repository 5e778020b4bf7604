"""Checks of where the monitor serves its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.config.checks.view import View
from failshut.model.finding import Code, Finding


def numbers_are_protected(view: View) -> Iterator[Finding]:
    """Refuse to serve others without a password or a certificate, and a key without its certificate."""
    table = view.declaration.document.metrics
    if table is None:
        return
    for index, each in enumerate(table.listen):
        if not each.is_local and not table.password_file and not table.certificate:
            remedy = "give `password_file` or `certificate`: how much a machine refuses says what its programs wanted to send"
            message = f"{each} is reached by others, and whoever asks is answered"
            yield view.declaration.finding(("metrics", "listen", index), Code.CONTRADICTION, message, remedy)
    if table.key and not table.certificate:
        yield view.declaration.finding(
            ("metrics", "key"), Code.MISSING_KEY, "a key without its certificate", "write `certificate` too"
        )

"""Writing a report: whether the file can be written is asked before the work, not after it."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failshut import __version__
from failshut.cli.session import Failure, Session
from failshut.host.run import run
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.report.facts import Machine


def must_be_writable(path: str) -> None:
    """Leave with a clear message where no report can be written."""
    file = Path(path).absolute()
    if file.is_dir():
        raise Failure(f"{path} is a directory", help="--report names the page's file", exit_code=Exit.USAGE)
    if not file.parent.is_dir():
        raise Failure(f"{file.parent} is no directory: no report can be written there", exit_code=Exit.USAGE)
    if not os.access(file.parent, os.W_OK):
        raise Failure(f"nothing can be written in {file.parent}", help="--report another file", exit_code=Exit.UNKNOWN)


def write_report(path: str, page: str, session: Session) -> None:
    """Write the page, whole or not at all, and say where it is."""
    from failshut.host.files import write_atomically

    try:
        write_atomically(Path(path), page)
    except OSError as error:
        raise Failure(f"the report can't be written: {path}: {error.strerror}") from error
    if not session.json:
        click.echo(f"report: {path}", err=True)


def this_machine() -> Machine:
    """Return what a page says of the machine it was made on."""
    from failshut.report.facts import Machine

    kernel = platform.uname()
    nft = run(("nft", "--version"))
    return Machine(
        kernel=f"{kernel.system} {kernel.release} ({kernel.machine})",
        nft=nft.out.strip() if nft.ok else "not installed",
        made=datetime.now().astimezone(),
        version=__version__,
    )

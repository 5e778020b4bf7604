"""`failshut top`: the live view."""

from __future__ import annotations

import sys
from typing import Any

import click

from failshut.cli.session import Failure, begin, session_options
from failshut.model.exits import Exit


@click.command("top")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Show the lock, the tunnels, what is open and what is refused, live, on one screen.

    Keys: a opens something for a time, r ends it, v runs `failshut verify`, q leaves. It needs 80 columns and 24 lines, works over
    SSH, and says every state by a word: NO_COLOR=1 takes the colours away. `failshut status --watch` says the same in lines.
    """
    session = begin(context, options)
    if session.json or not sys.stdout.isatty():
        raise Failure("`top` needs a terminal", help="`failshut status --watch` writes lines", exit_code=Exit.USAGE)
    try:
        from failshut.tui.app import Top
    except ModuleNotFoundError as missing:
        help_ = "pip install 'failshut[tui]'; `failshut status --watch` does without it"
        raise Failure(f"the live view needs {missing.name}, which is not installed", help=help_) from missing
    from failshut.tui.reading import Reader

    with Reader() as reader:
        Top(reader.now).run()

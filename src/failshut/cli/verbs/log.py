"""`failshut log`: what is refused, in the kernel's log, for a time."""

from __future__ import annotations

from typing import Any

import click

from failshut.allowances.errors import RefusedError
from failshut.cli.failures import refuse
from failshut.cli.session import Session, begin, session_options

# What a person reads in one go; a program that asks for less does not hide what it asks.
_HINT = "journalctl -k -f --grep 'failshut blocked'"


@click.command("log")
@click.option("--for", "time", metavar="TIME", help="Log for so long: 90s, 10m, 1h30m. The kernel ends it, whatever happens.")
@click.option("--off", is_flag=True, help="End it before its time.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, time: str | None, off: bool, **options: Any) -> None:
    r"""Write what the lock refuses into the kernel's log, for a time.

    \b
    failshut log --for 10m    five packets a second at most, after the first twenty
    failshut log              whether it is logged now, and for how long
    failshut log --off

    It changes nothing of what may leave. The end is the kernel's: it comes when failshut is killed, and a re-arming leaves it as it
    is. For good: [log] blocked = "kernel" in the policy. By program and user: `failshut watch`.
    """
    from failshut.allowances import logging
    from failshut.allowances.spec import seconds

    session = begin(context, options)
    if time is not None and off:
        raise click.UsageError("either --for or --off", context)
    try:
        if time is not None:
            logging.start(seconds(time))
            _say(session, f"Logged for {time}: {_HINT}")
        elif off:
            _say(session, "Not logged any more." if logging.stop() else "It was not logged.")
        else:
            left = logging.left()
            _say(session, "Not logged." if left is None else f"Logged for {left} s more: {_HINT}")
    except RefusedError as error:
        refuse(error)


def _say(session: Session, words: str) -> None:
    from failshut.allowances import logging

    if session.json:
        session.print_json({"logged_for": logging.left()})
    else:
        click.echo(words)

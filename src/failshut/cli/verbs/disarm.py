"""`failshut disarm`: the only way out, and it asks."""

from __future__ import annotations

import sys
from typing import Any

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.session import Failure, begin, session_options
from failshut.model.exits import Exit


@click.command("disarm")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@session_options
@click.pass_context
def command(context: click.Context, /, yes: bool, **options: Any) -> None:
    """Take the lock off, and put back what arming changed: kernel, staged files, the tunnels' marks."""
    from failshut.arming.disarm import disarm
    from failshut.arming.exclusive import one_at_a_time

    session = begin(context, options)
    if not yes:
        if not sys.stdin.isatty():
            raise Failure("disarming asks first, and there is no terminal to ask on", help="add --yes", exit_code=Exit.USAGE)
        click.confirm("Without the lock, traffic leaves in the clear whenever the tunnel is down. Disarm?", abort=True)
    try:
        with one_at_a_time():
            was_armed = disarm(lambda line: None if session.json else click.echo(f"  {line}", err=True))
    except ArmingError as error:
        leave(error)
    if session.json:
        session.print_json({"armed": False, "was_armed": was_armed})
    elif was_armed:
        click.echo(session.style("Disarmed.", fg="yellow", bold=True) + " Nothing holds traffic back now.")
    else:
        click.echo("The lock was not armed; nothing to do.")

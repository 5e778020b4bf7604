"""`failshut confirm`: keep what `arm --confirm-within` would undo."""

from __future__ import annotations

from typing import Any

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.session import begin, session_options


@click.command("confirm")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Keep the lock that `arm --confirm-within` put on: its timer is taken back, and every boot loads it from now on.

    Run it from a new session: that you could open one is what is confirmed.
    """
    from failshut.arming.arm import confirm
    from failshut.arming.exclusive import one_at_a_time

    session = begin(context, options)
    try:
        with one_at_a_time():
            record = confirm(lambda line: None if session.json else click.echo(f"  {line}", err=True))
    except ArmingError as error:
        leave(error)
    if session.json:
        session.print_json({"armed": True, "tunnels": record.tunnels, "at_boot": record.with_systemd})
        return
    click.echo(session.style("Confirmed.", fg="green", bold=True) + " The lock stays, at every boot too.")

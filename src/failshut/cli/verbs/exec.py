"""`failshut exec --outside`: run one program outside the tunnel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from failshut.allowances.errors import RefusedError
from failshut.cli.failures import refuse
from failshut.cli.prepare import load_outside_or_leave
from failshut.cli.session import Failure, begin, session_options
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.host.account import Account


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option("--outside", is_flag=True, help="Outside the tunnel, as [outside] of the policy allows.")
@click.option("--user", metavar="NAME", help="Run it as this user [who called sudo].")
@click.argument("argv", metavar="-- COMMAND [ARGUMENT…]", nargs=-1, type=click.UNPROCESSED)
@session_options
@click.pass_context
def command(context: click.Context, /, *, argv: tuple[str, ...], **options: Any) -> None:
    """Run one program, and whatever it starts, outside the tunnel: over the underlay, with the machine's own address.

    Everything else stays inside. The program's exit status is passed on. What it asks a program inside to do for it (another
    window of a browser that runs already, a service) is done inside.
    """
    from failshut.allowances.launch import Start
    from failshut.allowances.outside import run_outside
    from failshut.host.account import surroundings

    session = begin(context, options)
    if not options["outside"]:
        raise click.UsageError(
            "Say where: `failshut exec --outside -- COMMAND`. Without failshut a program runs inside the tunnel."
        )
    if not argv:
        raise click.UsageError("Say what to run: `failshut exec --outside -- COMMAND`.")
    must_be_root("exec --outside")
    outside = load_outside_or_leave(session, "exec")
    account = who(options["user"])
    try:
        run_outside(Start(outside.slice, account, outside.dns), argv, surroundings(account))
    except RefusedError as refused:
        refuse(refused)


def must_be_root(verb: str) -> None:
    """Leave unless this runs as root."""
    if os.geteuid() != 0:
        raise Failure("only root may let a program out", help=f"sudo failshut {verb} …", exit_code=Exit.UNKNOWN)


def who(name: str | None) -> Account:
    """Return the user that a program runs as: the named one, else who called."""
    from failshut.host.account import NoSuchUserError, caller, named

    try:
        return named(name) if name else caller()
    except NoSuchUserError as error:
        raise Failure(str(error), exit_code=Exit.USAGE) from error

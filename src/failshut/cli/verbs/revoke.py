"""`failshut revoke`: end an allowance before its time."""

from __future__ import annotations

from typing import Any

import click

from failshut.allowances.errors import RefusedError
from failshut.cli.failures import refuse
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Session, begin, session_options
from failshut.cli.verbs.allow import opening_from


@click.command("revoke")
@click.argument("what", nargs=-1, metavar="NAME | lan [PREFIX] | to ADDRESS:PORT/PROTOCOL")
@click.option("--user", metavar="NAME", default=None, help="With `to`: the user it was opened for.")
@click.option("--all", "everything", is_flag=True, help="End everything that is open for a time.")
@session_options
@click.pass_context
def command(context: click.Context, /, what: tuple[str, ...], user: str | None, *, everything: bool, **options: Any) -> None:
    """End what `failshut allow` opened, before its time. Say it as it was said there; `failshut status` shows what is open."""
    from failshut.allowances.timed import revoke_all

    session = begin(context, options)
    if bool(what) == everything:
        raise click.UsageError("say what to revoke, or --all", context)
    try:
        ended = list(revoke_all()) if everything else [_revoked(what, user, session)]
    except RefusedError as error:
        refuse(error)
    if session.json:
        session.print_json({"revoked": ended})
        return
    click.echo("\n".join(f"Shut: {each}." for each in ended) or "Nothing was open.")


def _revoked(what: tuple[str, ...], user: str | None, session: Session) -> str:
    from failshut.allowances.timed import revoke

    opening = opening_from(what, user, load_policy_or_leave(session, "revoke"))
    if not revoke(opening):
        raise RefusedError(f"{opening} is not open", help="`failshut status` shows what is")
    return str(opening)

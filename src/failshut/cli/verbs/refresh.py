"""`failshut refresh`: find a tunnel's server again, by the endpoints that are pinned or by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from failshut.allowances.endpoints.state import State
from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.allowances.endpoints.refresh import Outcome

_WORDS = {
    State.WORKS: ("works", "green"),
    State.FAILED_OVER: ("goes on by another pinned endpoint", "green"),
    State.PINNED: ("goes on by a new address, which is pinned", "green"),
    State.STALE: ("no endpoint completes a handshake; nothing was changed", "red"),
    State.DOWN: ("is down", "yellow"),
    State.UNKNOWN: ("is not WireGuard: its own program finds its server", "yellow"),
}


@click.command("refresh")
@click.argument("tunnels", nargs=-1, metavar="[TUNNEL]…")
@click.option("--up", is_flag=True, help="First bring up, with wg-quick, what is down: its names lead to the pinned addresses.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing where nothing has changed; for timers.")
@session_options
@click.pass_context
def command(context: click.Context, /, tunnels: tuple[str, ...], up: bool, quiet: bool, **options: Any) -> None:
    """Find a tunnel's server again: all tunnels, or those that are named.

    A tunnel with a recent handshake is left alone. Else its other pinned endpoints are tried in turn. Where an endpoint was
    written by name, what the tunnel's own resolver said last is tried then, and at last the policy's [endpoint] resolvers are
    asked over TLS. A new address is pinned, and the lock armed with it, only once a handshake with it has completed.
    """
    from failshut.allowances.endpoints.refresh import bring_up, refresh
    from failshut.arming.again import NotArmedError

    session = begin(context, options)
    say = _silent if quiet or session.json else _say
    try:
        if up:
            bring_up(tunnels, report=say)
        outcomes = refresh(tunnels, report=say)
    except NotArmedError as error:
        raise Failure("the lock is disarmed", help="`failshut arm` turns it on", exit_code=Exit.DISARMED) from error
    except ArmingError as error:
        leave(error)
    _conclude(outcomes, session, quiet=quiet)


def _conclude(outcomes: tuple[Outcome, ...], session: Session, *, quiet: bool) -> None:
    if session.json:
        session.print_json({"tunnels": {each.tunnel: outcome_json(each) for each in outcomes}})
    for each in outcomes if not session.json else ():
        if quiet and not each.state.is_change and each.state.is_well:
            continue
        if quiet:
            for note in each.notes:
                _say(note)
        words, colour = _WORDS[each.state]
        at = f" ({', '.join(each.endpoints)})" if each.endpoints else ""
        click.echo(f"{each.tunnel} {session.style(words, fg=colour)}{at}")
    raise click.exceptions.Exit(Exit.OK if all(each.state.is_well for each in outcomes) else Exit.FAILED)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a JSON object with stable keys."""
    return {
        "state": str(outcome.state),
        "changed": outcome.state.is_change,
        "endpoints": list(outcome.endpoints),
        "notes": list(outcome.notes),
    }


def _say(line: str) -> None:
    click.echo(f"  {line}", err=True)


def _silent(_line: str) -> None:
    pass

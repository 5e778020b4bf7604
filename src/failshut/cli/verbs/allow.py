"""`failshut allow`: an allowance for a time, which the kernel itself ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from failshut.allowances.errors import RefusedError
from failshut.cli.failures import refuse
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import begin, session_options
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.allowances.openings import Opening
    from failshut.model.policy import Policy


@click.command("allow")
@click.argument("what", nargs=-1, required=True, metavar="NAME | lan [PREFIX] | to ADDRESS:PORT/PROTOCOL")
@click.option(
    "--for", "time", required=True, metavar="TIME", help="How long: 90s, 10m, 1h30m. The kernel ends it, whatever happens."
)
@click.option("--user", metavar="NAME", default=None, help="With `to`: only this user's programs.")
@click.option("--i-know", "known", is_flag=True, help="Open it although it is wide, or long.")
@session_options
@click.pass_context
def command(context: click.Context, /, what: tuple[str, ...], time: str, user: str | None, *, known: bool, **options: Any) -> None:
    """Open something beside the tunnel for a time.

    \b
    failshut allow lan --for 10m                  the LAN that the policy names with on_demand = true
    failshut allow lan 192.168.1.0/24 --for 10m   a network on the link; DNS to it stays refused
    failshut allow ssh --for 1h                   an inbound or outbound allowance with on_demand = true
    failshut allow to 192.0.2.7:443/tcp --for 5m --user alice

    The deadline is the kernel's: it holds when failshut is killed, and a re-arming leaves it as it is. `failshut status` shows
    what is open and for how long, `failshut revoke` ends it early.

    The rules for it cost every packet a little. So the first `allow` of a network or an address arms the lock once more, as it was
    armed, with these rules in it; an `arm` when nothing is open takes them out again.
    """  # noqa: D301 - click looks for the character itself
    from failshut.allowances.spec import seconds
    from failshut.allowances.timed import allow

    session = begin(context, options)
    policy = load_policy_or_leave(session, "allow")
    try:
        lasting = seconds(time)
        opening = opening_from(what, user, policy)
        _refuse_the_wide(opening, lasting, policy, known=known)
        allow(opening, lasting, lambda line: None if session.json else click.echo(f"  {line}", err=True))
    except RefusedError as error:
        refuse(error)
    if session.json:
        session.print_json({"open": str(opening), "seconds": lasting})
        return
    click.echo(session.style("Open", fg="yellow", bold=True) + f": {opening}, for {time}. `failshut revoke` ends it early.")


def opening_from(what: tuple[str, ...], user: str | None, policy: Policy) -> Opening:
    """Return what the words stand for. Raises `RefusedError`."""
    from failshut.allowances.openings import LanNetwork, Named
    from failshut.allowances.spec import network as network_of
    from failshut.allowances.spec import site

    if user is not None and what[0] != "to":
        raise RefusedError(
            "--user belongs to `to`", help="failshut allow to 192.0.2.7:443/tcp --for 5m --user alice", exit_code=Exit.USAGE
        )
    match what:
        case ("to", where):
            return site(where, _uid(user))
        case ("lan", where):
            return LanNetwork(network_of(where))
        case ("lan",) if policy.lan is None or not policy.lan.on_demand:
            message = "the LAN is allowed already, by the policy" if policy.lan else "the policy names no LAN to open"
            raise RefusedError(message, help="" if policy.lan else _which_lan(), exit_code=Exit.USAGE)
        case (name,) if name != "to":
            return Named(name)
    raise RefusedError(
        f"'{' '.join(what)}' is nothing that can be opened", help="`failshut allow --help` shows what can", exit_code=Exit.USAGE
    )


def _refuse_the_wide(opening: Opening, lasting: int, policy: Policy, *, known: bool) -> None:
    from failshut.allowances.spec import objections

    found = list(objections(opening, lasting, policy))
    if found and not known:
        raise RefusedError("; ".join(found), help="--i-know opens it all the same", exit_code=Exit.USAGE)
    for each in found:
        click.echo(f"failshut: warning: {each}", err=True)


def _uid(user: str | None) -> int | None:
    from failshut.host.sources import user_number

    if user is None:
        return None
    number = int(user) if user.isascii() and user.isdigit() else user_number(user)
    if number is None:
        raise RefusedError(f"there is no user '{user}' on this machine", help="`getent passwd` lists them", exit_code=Exit.USAGE)
    return number


def _which_lan() -> str:
    """Offer the networks on the link: the user says which is his, for a hostile Wi-Fi can call itself anything."""
    from failshut.host.network.routes import on_link

    networks = [f"{prefix} ({device})" for prefix, device in on_link() if not prefix.is_link_local]
    seen = f"on the link are {', '.join(networks)}; " if networks else ""
    return f"{seen}say which is yours: failshut allow lan 192.168.1.0/24 --for 10m"

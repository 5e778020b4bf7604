"""`failshut portal`: sign in at a captive portal with one throw-away browser, while everything else stays dark."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from failshut.allowances.errors import RefusedError
from failshut.allowances.portal.ending import Ending
from failshut.allowances.portal.verdict import PROBE_URL, Verdict
from failshut.cli.failures import refuse
from failshut.cli.session import Session, begin, session_options
from failshut.cli.verbs.exec import must_be_root, who
from failshut.model.exits import Exit
from failshut.model.timed import LONGEST_SIGN_IN

if TYPE_CHECKING:
    from failshut.allowances.portal.browser import Browser
    from failshut.allowances.portal.signin import Outcome
    from failshut.host.network.resolvers import FoundResolver

_UNITS = {"": 1, "s": 1, "m": 60}
_SAID = {
    Ending.NO_PORTAL: "No portal: this network lets everybody out. If the tunnel does not come up, that is not why.",
    Ending.SIGNED_IN: "Signed in: the tunnel has shaken hands.",
    Ending.BROWSER_ENDED: "The browser was closed, and the tunnel has not shaken hands. Shut.",
    Ending.TIME_UP: "The time is up, and the tunnel has not shaken hands. Shut.",
    Ending.STOPPED: "Stopped. Shut.",
}
_NO_ANSWER = {
    Verdict.NO_NAME: "No portal was found: no resolver of this network answers.",
    Verdict.SILENT: "No portal was found: {address} does not answer ({error}).",
}
_GOOD = (Ending.NO_PORTAL, Ending.SIGNED_IN)


def seconds(_: click.Context, __: click.Parameter, value: str) -> int:
    """Read `--timeout`: seconds, or minutes with an m."""
    found = re.fullmatch(r"(\d{1,6})([sm]?)", value)
    given_seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= given_seconds <= LONGEST_SIGN_IN:
        raise click.BadParameter(f"{value} is not between 1s and {LONGEST_SIGN_IN // 60}m: a sign-in is no way to live outside.")
    return given_seconds


def resolvers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[FoundResolver, ...]:
    """Read each `--resolver`."""
    from failshut.host.network.resolvers import FoundResolver

    try:
        return tuple(FoundResolver(ip_address(each), "--resolver") for each in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def page(_: click.Context, __: click.Parameter, value: str) -> str:
    """Read `--probe`: over TLS a portal could not answer in the page's place."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme == "http" and parts.hostname and (parts.port or 80) in (80, 443)
    except ValueError:
        usable = None
    if not usable:
        raise click.BadParameter(f"{value} is no plain http:// page on port 80.")
    return value


def browser(_: click.Context, __: click.Parameter, value: str | None) -> Browser | None:
    """Read `--browser`."""
    from failshut.allowances.portal.browser import given

    if value is None:
        return None
    named = given(value)
    if named is None:
        raise click.BadParameter(f"{value!r} is no command.")
    return named


@click.command("portal")
@click.option("--timeout", "limit", metavar="TIME", default="5m", callback=seconds, help="Shut after this long [5m, the most].")
@click.option("--resolver", "asked", metavar="ADDRESS", multiple=True, callback=resolvers, help="The network's resolver [DHCP's].")
@click.option("--browser", "named", metavar="COMMAND", callback=browser, help="The browser; it is told the page [the first found].")
@click.option("--probe", metavar="URL", default=PROBE_URL, callback=page, help=f"A page that answers 204 [{PROBE_URL}].")
@click.option("--user", metavar="NAME", help="Run the browser as this user [who called sudo].")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Look for a captive portal; where there is one, let a throw-away browser sign in, and nothing else of this machine out.

    It is shut again as soon as the tunnel has shaken hands, the browser is closed, or the time is up; the kernel itself keeps the
    time. The browser has a profile of its own, which is deleted.
    """
    from failshut.allowances.portal.browser import find
    from failshut.allowances.portal.signin import Request, sign_in
    from failshut.host.account import surroundings

    session = begin(context, options)
    must_be_root("portal")
    account = who(options["user"])
    environment = surroundings(account)
    request = Request(
        account=account,
        environment=environment,
        probe=options["probe"],
        browser=options["named"] or find(environment),
        seconds=options["limit"],
        resolvers=options["asked"],
        talkative=not session.json,
    )
    try:
        outcome = sign_in(request, lambda line: None if session.json else click.echo(f"  {line}", err=True))
    except RefusedError as refused:
        refuse(refused)
    show(outcome, session)
    raise click.exceptions.Exit(Exit.OK if outcome.ending in _GOOD else Exit.FAILED)


def show(outcome: Outcome, session: Session) -> None:
    """Say what was found and how it ended."""
    if session.json:
        session.print_json(
            {
                "ok": outcome.ending in _GOOD,
                "verdict": str(outcome.verdict),
                "ending": str(outcome.ending),
                "page": outcome.page or None,
                "resolvers": [{"address": str(each.address), "source": each.source} for each in outcome.resolvers],
            }
        )
        return
    click.echo(f"asked      {', '.join(f'{each.address} ({each.source})' for each in outcome.resolvers)}")
    sentence = _SAID.get(outcome.ending) or _NO_ANSWER[outcome.verdict].format(**vars_of(outcome))
    click.echo(sentence)


def vars_of(outcome: Outcome) -> dict[str, str]:
    """Return what a sentence may name."""
    return {"address": outcome.seen.address, "error": outcome.seen.error or "no HTTP"}

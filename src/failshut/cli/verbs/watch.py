"""`failshut watch`: what would have leaked, live."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from failshut.allowances.errors import RefusedError
from failshut.cli.failures import refuse
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from failshut.watch.feed import Feed
    from failshut.watch.tally import Row, Sender

# How often a table is drawn at most, in seconds.
_DRAWN_EVERY = 0.25
_FOREVER = float("inf")
_HOW = 'to see programs, write blocked = "nflog" under [log] in the policy, then `failshut arm`'


@click.command("watch")
@click.option("--for", "time_text", metavar="TIME", help="End after this long: 30s, 10m. Without it, Ctrl-C ends it.")
@session_options
@click.pass_context
def command(context: click.Context, /, time_text: str | None, **options: Any) -> None:
    """Show what tries to leave beside the tunnel and is refused, as it happens.

    Each line is a program (name, process, user, unit) and where it wanted to go, with the name that it asked for where that was
    seen, the port, how many packets, and when last. On a terminal the table stays in place; into a file or a pipe, each new line is
    written once. With --json, each is an object on a line of its own, and the totals come at the end.

    Programs are known with [log] blocked = "nflog" in the policy. Otherwise the kernel's counters are shown: exact, but with the
    user alone. A program that ended before it could be found, and packets that no program's socket sent, are said to be so.
    """
    from failshut.allowances.outside import why_not
    from failshut.host.filter.nft import NftError
    from failshut.watch.feed import Feed

    session = begin(context, options)
    until = time.monotonic() + _lasting(time_text)
    try:
        with Feed() as feed:
            if not feed.is_armed:
                refuse(why_not("the armed lock counts nothing", "`failshut arm`"))
            _show(feed, until, session)
    except (NftError, PermissionError) as error:
        raise Failure(f"the kernel may not be asked: {error}", help="run it with sudo", exit_code=Exit.UNKNOWN) from error
    except OSError as error:
        raise Failure(f"the kernel's log can't be heard: {error.strerror}", help="does another `failshut watch` run?") from error


def _lasting(text: str | None) -> float:
    from failshut.allowances.spec import seconds

    try:
        return seconds(text) if text else _FOREVER
    except RefusedError as error:
        refuse(error)


def _show(feed: Feed, until: float, session: Session) -> None:
    from failshut.watch.feed import Source

    if feed.source is Source.COUNTED:
        click.echo(f"failshut: showing counters, by user; {feed.unheard or _HOW}", err=True)
    with suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not session.json:
            _table(feed, until, session)
        else:
            _lines(feed, until, session)
    feed.finish()
    if session.json:
        click.echo(json.dumps({"total": feed.tally.packets, "lost": feed.lost, "rows": [row_json(each) for each in _rows(feed)]}))
        return
    click.echo(f"{feed.tally.packets} packets refused in {len(feed.tally.rows) + feed.tally.forgotten} lines" + _losses(feed))


def _lines(feed: Feed, until: float, session: Session) -> None:
    if session.json:
        click.echo(json.dumps({"watching": feed.source}))
    while (left := until - time.monotonic()) > 0:
        for row in feed.more(min(left, 1.0)):
            click.echo(json.dumps(row_json(row)) if session.json else row_line(row))


def _table(feed: Feed, until: float, session: Session) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=not session.use_color)
    with Live(_drawn(feed, console.height), console=console, auto_refresh=False) as live:
        drawn, shown = time.monotonic(), feed.tally.packets
        while (left := until - time.monotonic()) > 0:
            feed.more(min(left, _DRAWN_EVERY))
            if feed.tally.packets != shown and time.monotonic() >= drawn + _DRAWN_EVERY:
                drawn, shown = time.monotonic(), feed.tally.packets
                live.update(_drawn(feed, console.height), refresh=True)


def _drawn(feed: Feed, height: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from failshut.host.account import user_name

    title = f"refused: {feed.tally.packets} packets" if feed.tally.packets else "nothing refused so far"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, caption=_losses(feed) or None)
    for heading, justify in (("last", "left"), ("packets", "right"), ("program", "left"), ("user", "left"), ("to", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=heading != "to")
    for row in list(_rows(feed))[: max(height - 5, 1)]:
        table.add_row(_clock(row), str(row.packets), escape(_program(row.sender)), user_name(row.sender.uid), escape(_target(row)))
    return table


def _rows(feed: Feed) -> Iterator[Row]:
    return (feed.named(each) for each in feed.tally.rows)


def _losses(feed: Feed) -> str:
    parts = [f"{feed.tally.forgotten} older lines are not shown"] if feed.tally.forgotten else []
    parts += ["more came than could be listed; `failshut status` has the kernel's count"] if feed.lost else []
    return f" ({'; '.join(parts)})" if parts else ""


def row_line(row: Row) -> str:
    """Return a row as a line of text."""
    from failshut.host.account import user_name

    return f"{_clock(row)}  {row.packets:>6}  {_program(row.sender)}, user {user_name(row.sender.uid)} → {_target(row)}"


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON with stable keys."""
    from failshut.host.account import user_name

    return {
        "program": row.sender.name or None,
        "pid": row.sender.pid,
        "uid": row.sender.uid,
        "user": user_name(row.sender.uid),
        "cgroup": row.sender.group or None,
        "destination": row.destination,
        "name": row.name or None,
        "protocol": row.protocol,
        "port": row.port,
        "packets": row.packets,
        "first": row.first,
        "last": row.last,
    }


def _clock(row: Row) -> str:
    return f"{datetime.fromtimestamp(row.last).astimezone():%H:%M:%S}"


def _program(sender: Sender) -> str:
    if sender.pid is None:
        return "no program's" if sender.uid is None else "unknown program"
    unit = PurePosixPath(sender.group).name
    return f"{sender.name}[{sender.pid}]" + (f" of {unit}" if unit else "")


def _target(row: Row) -> str:
    port = f" port {row.port}" if row.port else ""
    return f"{f'{row.name} ({row.destination})' if row.name else row.destination} {row.protocol}{port}"

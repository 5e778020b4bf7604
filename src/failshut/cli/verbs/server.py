"""`failshut server`: a WireGuard server on this machine, and its peers."""

from __future__ import annotations

import difflib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from failshut.arming.errors import ArmingError
from failshut.cli.ask import can_ask
from failshut.cli.qr import show_qr
from failshut.cli.session import Failure, Session, begin, refuse, session_options
from failshut.config.mistake import Mistake
from failshut.model.exits import Exit
from failshut.server import config
from failshut.server.errors import ServerError
from failshut.templates import answers

if TYPE_CHECKING:
    from failshut.server.peers import Seen
    from failshut.server.plan import Asked, Plan

# What a diff on the terminal must not show.
_SECRET = re.compile(r"(?i)(PrivateKey|PresharedKey)(\s*=\s*)\S+")


@click.group("server")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Make this machine a WireGuard server: config, forwarding, NAT, a firewall that keeps SSH, all of it at every boot.

    Its peers reach the Internet through it, and not each other, nor what is private around it; what else they may is said to
    `init`. Everything is kept in /etc/wireguard/wg0.conf, in lines that begin with "# failshut:"; yours stay as they are.
    """
    context.obj = begin(context, options)


def _typed(reader: Callable[[str], Any]) -> Any:
    """Return a click callback that reads an option's text, or several texts, into a value; a mistake is wrong usage."""

    def read(context: click.Context, option: click.Parameter, text: str | tuple[str, ...] | None) -> Any:
        if text is None or text == ():
            return None
        whole = text if isinstance(text, str) else ",".join(text)
        try:
            if any(not each.isprintable() for each in whole):
                raise click.UsageError(f"{option.get_error_hint(context)}: a control character can't stand here.")
            return () if whole == "none" else reader(whole)
        except Mistake as mistake:
            raise click.UsageError(f"{option.get_error_hint(context)}: {mistake.message}; {mistake.help}") from mistake

    return read


@command.command("init", short_help="Make this machine the server, or change what it is")
@click.option("--endpoint", metavar="HOST[:PORT]", callback=_typed(answers.endpoint), help="How peers reach it [its own address].")
@click.option("--port", metavar="NUMBER", callback=_typed(answers.port), help="The UDP port it listens at [51820].")
@click.option("--network", metavar="PREFIX", callback=_typed(answers.network4), help="IPv4 of the tunnel [10.86.0.0/24].")
@click.option("--network6", metavar="PREFIX", callback=_typed(answers.network6), help="IPv6 of the tunnel [a fresh fd…::/64].")
@click.option("--dns", metavar="ADDRESSES", callback=_typed(answers.addresses), help="Peers' resolvers, or none [Quad9].")
@click.option(
    "--ssh-port",
    "ssh",
    metavar="NUMBER",
    multiple=True,
    callback=_typed(config.ports),
    help="Keep it open for SSH [those found]. Repeatable.",
)
@click.option("--no-ssh", is_flag=True, help="There is no SSH server, and nothing is kept open for one.")
@click.option(
    "--open",
    "opened",
    metavar="tcp/443",
    multiple=True,
    callback=_typed(config.services),
    help="A service that is reached from outside. Repeatable.",
)
@click.option(
    "--serve",
    metavar="udp/53",
    multiple=True,
    callback=_typed(config.services),
    help="A service here that peers reach. Repeatable.",
)
@click.option(
    "--reach",
    metavar="PREFIX",
    multiple=True,
    callback=_typed(answers.prefixes),
    help="A private network that peers reach. Repeatable.",
)
@click.option("--peers-talk/--no-peers-talk", "talk", default=None, help="Whether peers reach each other [no].")
@click.option("--internet/--no-internet", default=None, help="Whether peers reach the Internet [yes].")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@session_options
@click.pass_context
def init(context: click.Context, /, *, dry_run: bool, no_ssh: bool, **options: Any) -> None:
    """Make this machine the server, or change what it is: what is not said stays as it is.

    Everything is checked before anything is changed, and a failure puts everything back. The ports at which an SSH server
    really listens are found, and stay open. An option that names several things may be given several times, or as none.
    """
    from failshut.host.tunnels.wireguard import NoKeysError
    from failshut.server.apply import carry_out, changing
    from failshut.server.plan import Asked

    said = {name: options.pop(name) for name in tuple(options) if name in Asked.__slots__}
    session = begin(context, options)
    _must_be_root("init")
    asked = Asked(**(said | ({"ssh": ()} if no_ssh else {})))
    try:
        if dry_run:
            plan = _planned(asked)
        else:
            with changing() as undo:
                plan = _planned(asked)
                carry_out(plan, lambda line: _say(line, session), undo)
    except (ServerError, ArmingError, NoKeysError) as error:
        _leave(error, session)
    _conclude(plan, session, dry_run=dry_run)


def _planned(asked: Asked) -> Plan:
    from failshut.host.tunnels.wireguard import fresh_keys
    from failshut.server.facts import gather
    from failshut.server.plan import make_plan

    private, public, _ = fresh_keys()
    return make_plan(asked, gather(), private, public, secrets.token_bytes(5))


def _conclude(plan: Plan, session: Session, *, dry_run: bool) -> None:
    if session.json:
        session.print_json(
            {
                "ok": True,
                "changed": plan.is_change and not dry_run,
                "would_change": plan.is_change,
                "endpoint": str(plan.server.settings.endpoint),
                "addresses": [str(each) for each in plan.server.addresses],
                "port": int(plan.server.port),
                "ssh": [int(each) for each in plan.server.settings.ssh or ()],
                "files": [each.path for each in plan.files if each.is_change],
                "sysctls": {each.path.replace("/", "."): each.after for each in plan.sysctls},
                "notes": list(plan.notes),
            }
        )
        return
    if dry_run:
        click.echo("\n".join(_shown(plan, session)) or "nothing would change")
    for note in plan.notes:
        click.echo(session.style(f"note: {note}", fg="yellow"), err=True)
    if not dry_run:
        word = session.style("ok", fg="green", bold=True)
        ports = ", ".join(str(int(each)) for each in plan.server.settings.ssh or ())
        kept = f"; SSH stays open at {ports}" if ports else ""
        click.echo(f"{word}: this machine is the server {plan.server.settings.endpoint}{kept}. Next: failshut server add-peer NAME")


def _shown(plan: Plan, session: Session) -> Iterator[str]:
    """Yield what would change: each file as a diff without its keys, each setting."""
    for each in plan.files:
        if each.is_change:
            before, after = (_SECRET.sub(r"\1\2(hidden)", text).splitlines() for text in (each.before or "", each.after))
            for line in difflib.unified_diff(
                before, after, each.path if each.before is not None else "/dev/null", each.path, "", "", 2, ""
            ):
                colour = {"+": "green", "-": "red"}.get(line[:1])
                yield session.style(line, fg=colour) if colour else line
    for setting in plan.sysctls:
        yield f"{setting.path.replace('/', '.')}: {setting.before} → {setting.after}"


@command.command("add-peer", short_help="Add a peer, and write its config or draw it")
@click.argument("name", callback=_typed(answers.name))
@click.option("-o", "--output", metavar="FILE|-", default=None, help="Where the peer's config goes [./NAME.conf]; - prints it.")
@click.option("--qr", is_flag=True, help="Draw it for a telephone; without --output no file is written then.")
@session_options
@click.pass_context
def add_peer(context: click.Context, /, *, name: str, output: str | None, qr: bool, **options: Any) -> None:
    """Add a peer with fresh keys and the next free address, and write its config.

    The running server takes it at once, and no other peer notices. The peer's private key is in its config and nowhere else:
    bring the file to its machine as /etc/wireguard/wg0.conf, run `failshut init wg0` there, and delete it here.
    """
    from failshut.host.tunnels.wireguard import NoKeysError
    from failshut.server import peers
    from failshut.server.apply import changing

    session = begin(context, options)
    _must_be_root("add-peer")
    path = None if output == "-" or (qr and output is None) else Path(output or f"{name}.conf")
    try:
        with changing() as undo:
            added = peers.add(name, path, undo)
    except (ServerError, ArmingError, NoKeysError) as error:
        _leave(error, session)
    if session.json:
        shown = {"config": added.text} if output == "-" else {"file": os.fspath(path) if path else None}
        session.print_json({"name": name, "addresses": [str(each) for each in added.addresses], "live": added.live, **shown})
    elif output == "-":
        click.echo(added.text, nl=False)
    else:
        where = f"; its config is {path}" if path else ""
        later = "" if added.live else " (the server is down: it is known when wg0 comes up)"
        click.echo(f"{session.style('ok', fg='green', bold=True)}: {name} has {', '.join(map(str, added.addresses))}{where}{later}")
    if qr:
        show_qr(name, added.text)


@command.command("remove-peer", short_help="Remove a peer; no other notices")
@click.argument("name", callback=_typed(answers.name))
@session_options
@click.pass_context
def remove_peer(context: click.Context, /, *, name: str, **options: Any) -> None:
    """Remove a peer: its key is worth nothing from this moment on. No other peer notices."""
    from failshut.server import peers
    from failshut.server.apply import changing

    session = begin(context, options)
    _must_be_root("remove-peer")
    try:
        with changing() as undo:
            gone = peers.remove(name, undo)
    except (ServerError, ArmingError) as error:
        _leave(error, session)
    if session.json:
        session.print_json({"name": gone.name, "removed": True})
    else:
        click.echo(f"{session.style('ok', fg='green', bold=True)}: {gone.name} is a peer no more")


@command.command("list", short_help="List the peers, their last handshakes and volume")
@session_options
@click.pass_context
def list_(context: click.Context, /, **options: Any) -> None:
    """List the peers: addresses, the last handshake, what went through."""
    from failshut.model.running import SESSION_LASTS
    from failshut.server import peers

    session = begin(context, options)
    _must_be_root("list")
    try:
        server, found = peers.seen()
    except (ServerError, ArmingError) as error:
        _leave(error, session)
    if session.json:
        session.print_json({"endpoint": str(server.settings.endpoint), "peers": [_peer_json(each) for each in found]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{server.settings.endpoint}, {len(found)} peers", title_justify="left", box=None)
    for heading in ("name", "addresses", "last handshake", "received", "sent"):
        table.add_column(heading)
    for each in found:
        age = each.running.handshake_age if each.running else None
        stale = " (stale)" if age is not None and age > SESSION_LASTS else ""
        when = f"{age} s ago{stale}" if age is not None else "never" if not (each.running and each.running.handshake_at) else "?"
        volume = [f"{each.running.received:,}", f"{each.running.sent:,}"] if each.running else ["", ""]
        allowed = ", ".join(str(address) for address in each.peer.addresses)
        table.add_row(each.peer.name or "(no name)", allowed, when, *volume)
    Console(no_color=not session.use_color, highlight=False).print(table)


def _peer_json(seen: Seen) -> dict[str, Any]:
    running = seen.running
    return {
        "name": seen.peer.name,
        "public_key": seen.peer.public,
        "allowed_ips": [str(each) for each in seen.peer.allowed],
        "endpoint": running.endpoint if running else None,
        "handshake_at": running.handshake_at if running else None,
        "received": running.received if running else None,
        "sent": running.sent if running else None,
    }


@command.command("remove", short_help="Undo `init`; the config is kept under another name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@session_options
@click.pass_context
def remove(context: click.Context, /, *, yes: bool, **options: Any) -> None:
    """Undo `init`: firewall, forwarding, units and tunnel go; the config is kept under another name, for its keys."""
    from failshut.server import peers
    from failshut.server.apply import changing, dismantle
    from failshut.server.places import CONFIG

    session = begin(context, options)
    _must_be_root("remove")
    if not yes:
        if not can_ask():
            raise Failure("nobody is here to be asked", help="--yes says so beforehand", exit_code=Exit.USAGE)
        if not click.confirm("Every peer loses its connection, and the firewall goes. Go on?", err=True):
            raise click.exceptions.Exit(Exit.OK)
    try:
        with changing():
            peers.the_server()
            kept = dismantle(lambda line: _say(line, session))
    except (ServerError, ArmingError) as error:
        _leave(error, session)
    if session.json:
        session.print_json({"removed": True, "kept": os.fspath(kept)})
    else:
        click.echo(f"{session.style('ok', fg='green', bold=True)}: this machine is no server any more; {CONFIG} is kept as {kept}")


def _say(line: str, session: Session) -> None:
    if not session.json:
        click.echo(f"  {line}", err=True)


def _must_be_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise Failure("only root may see or change the server", help=f"sudo failshut server {verb} …", exit_code=Exit.UNKNOWN)


def _leave(error: Exception, session: Session) -> NoReturn:
    if isinstance(error, ServerError):
        if error.findings:
            refuse(error.findings, session, "server")
        raise Failure(str(error), help=error.help, exit_code=error.code) from error
    raise Failure(str(error), help=getattr(error, "help", "apt install wireguard-tools")) from error

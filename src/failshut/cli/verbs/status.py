"""`failshut status`: the state in one word, then what explains it. Imports no more than it needs: it runs in prompts and bars."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from failshut.arming.armed.record import Record
from failshut.arming.armed.status import Boot, Status, read_status
from failshut.arming.armed.words import boot_words, guard_words, tunnel_words
from failshut.boot.places import LOADER
from failshut.cli.session import Session, begin, session_options
from failshut.host.pins import pins_json
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.model.lock import LockState
from failshut.model.running import RunningTunnel

if TYPE_CHECKING:
    from failshut.allowances.openings import Open

EXIT = {LockState.ARMED: Exit.OK, LockState.DISARMED: Exit.DISARMED, LockState.DRIFT: Exit.DRIFT, LockState.UNKNOWN: Exit.UNKNOWN}
_COLOUR = {LockState.ARMED: "green", LockState.DISARMED: "red", LockState.DRIFT: "red", LockState.UNKNOWN: "yellow"}
_SHOWN_DESTINATIONS = 5
# `--watch` looks so often, in seconds.
_LOOKED_EVERY = 1.0


@click.command("status")
@click.option("--watch", "is_watched", is_flag=True, help="Stay, and write a line for each change; Ctrl-C ends it.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print nothing; the exit code says it.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, is_watched: bool, is_quiet: bool, **options: Any) -> None:
    """Show whether the lock is armed and as it should be, the tunnels' health, and what was refused so far.

    The exit code says it too: 0 armed, 3 disarmed, 11 drift, 4 unknown. With -v also every rule and why it is there.
    """
    session = begin(context, options)
    if is_watched:
        _watch(session)
        return
    status = read_status()
    if is_quiet:
        pass
    elif session.json:
        session.print_json(status_json(status))
    else:
        for line in status_lines(status, session):
            click.echo(line)
    raise click.exceptions.Exit(EXIT[status.state])


def _watch(session: Session) -> None:
    """Write what changes, a sentence a line: for bars, logs and screen readers."""
    from failshut.tui.reading import Reader
    from failshut.tui.snapshot import changes

    with suppress(KeyboardInterrupt), Reader() as reader:
        before = None
        while True:
            now = reader.now()
            for line in changes(before, now):
                at = datetime.now(tz=UTC).astimezone()
                click.echo(json.dumps({"at": at.isoformat(), "event": line}) if session.json else f"{at:%H:%M:%S}  {line}")
            before = now
            time.sleep(_LOOKED_EVERY)


def status_json(status: Status) -> dict[str, Any]:
    """Return the status as JSON with stable keys."""
    return {
        "state": str(status.state),
        "reason": status.reason,
        "policy": status.record.policy if status.record else None,
        "armed_at": status.record.armed_at if status.record else None,
        "signed_by": (status.record.signed_by if status.record else "") or None,
        "tunnels": {name: _tunnel_json(tunnel) for name, tunnel in status.tunnels},
        "pins": pins_json(status.record.pins) if status.record else [],
        "under_ip": list(status.guarded),
        "not_under_ip": list(status.unguarded),
        "drift": list(status.drift),
        "routing": list(status.routing),
        "held": str(status.held),
        "reverts_in": status.reverts_in,
        "guard": status.guarded_by,
        "monitor": status.watched,
        "open": [{"what": str(each.what), "seconds": each.seconds} for each in _opened(status)],
        "boot": _boot_json(status.boot),
        "refused": {
            "local": status.counts.local,
            "forwarded": status.counts.forwarded,
            "under_ip": status.counts.under_ip,
            "destinations": [
                {
                    "destination": line.destination,
                    "protocol": line.protocol,
                    "port": line.port,
                    "uid": line.uid,
                    "packets": line.packets,
                }
                for line in status.counts.blocked
            ],
            "destinations_are_all": not status.counts.is_full,
        },
    }


def status_lines(status: Status, session: Session) -> Iterator[str]:
    """Yield the status as a person reads it."""
    word = session.style(str(status.state), fg=_COLOUR[status.state], bold=True)
    yield f"lock       {word}" + (f": {status.reason}" if status.reason else "")
    if status.state is LockState.UNKNOWN:
        yield "           run it with sudo"
        return
    if status.state is LockState.DISARMED:
        yield "           `failshut arm` turns it on"
        return
    if status.reverts_in is not None:
        yield "           " + session.style(f"undone in {status.reverts_in} s unless `failshut confirm` comes first", fg="yellow")
    for name, tunnel in status.tunnels:
        yield f"tunnel     {name} {tunnel_words(tunnel)}"
    yield from _armed(status.record)
    guarded = ", ".join(status.guarded) or session.style("no device: packets below IP are not held", fg="yellow")
    yield f"under IP   {guarded}"
    if status.unguarded:
        late = ", ".join(status.unguarded)
        yield "           " + session.style(f"not on {late}; `failshut arm` guards it too", fg="yellow")
    yield from _behind(status)
    if status.boot:
        yield f"at boot    {boot_words(status.boot)}"
    yield from _open(status, session)
    yield from _refused(status)
    yield from _drift(status)
    if session.verbose:
        yield from _rules(status)


def _armed(record: Record | None) -> Iterator[str]:
    """Yield who signed the policy, and what the names in it stand for."""
    if record and record.signed_by:
        yield f"signed by  {record.signed_by}"
    for pin in record.pins if record else ():
        since = datetime.fromtimestamp(pin.since, tz=UTC).astimezone()
        yield f"pinned     {pin.host} at {', '.join(map(str, pin.addresses))} since {since:%Y-%m-%d %H:%M}"


def _behind(status: Status) -> Iterator[str]:
    """Yield what stands behind the lock; with iptables as its backend, what it lacks."""
    record = status.record
    if record is None or record.backend != BackendName.IPTABLES:
        yield f"guard      {guard_words(status)}"
        yield f"monitor    {'watches' if status.watched else 'none: nobody sees drift, new devices or a tunnel that is down'}"
        return
    from failshut.lower.iptables.unsaid import left_out

    for number, each in enumerate(left_out(tailscale=bool(record.beside))):
        yield f"{'' if number else 'not held':<10} {each}"


def _drift(status: Status) -> Iterator[str]:
    if status.drift and status.listing.tables:
        yield "drift      the kernel's rules are not the armed ones; `failshut arm` puts them right"
        yield from (f"           {line}" for line in status.drift)
    if status.routing:
        yield f"routing    not as armed; `sh {LOADER} routing` puts it right"
        yield from (f"           {line}" for line in status.routing)


def _opened(status: Status) -> list[Open]:
    if not status.listing.json_texts:
        return []
    from failshut.allowances.openings import opened

    return list(opened(status.listing.json_texts))


def _open(status: Status, session: Session) -> Iterator[str]:
    for number, each in enumerate(_opened(status)):
        left = session.style(f"{each.seconds // 60} min {each.seconds % 60} s left", fg="yellow")
        yield f"{'' if number else 'open':<10} {each.what}, {left}"


def _boot_json(boot: Boot | None) -> dict[str, Any] | None:
    return {"loaded_by": boot.loaded_by, "damaged": boot.damaged, "missing": boot.missing} if boot else None


def _rules(status: Status) -> Iterator[str]:
    # Imported here: only -v pays for it.
    from failshut.emit.nft import rule_text

    for table in status.listing.ruleset().tables:
        for chain in table.chains:
            yield f"{table.family} {chain.name}"
            for rule in chain.rules:
                yield f"    {rule.comment:<24} {rule_text(rule)}"


def _refused(status: Status) -> Iterator[str]:
    yield f"refused    {status.counts.total} packets" + _split(status)
    for line in status.counts.blocked[:_SHOWN_DESTINATIONS]:
        port = f" port {line.port}" if line.port else ""
        yield f"           {line.packets:>6}  {line.destination} {line.protocol}{port}, user {line.uid}"
    hidden = len(status.counts.blocked) - _SHOWN_DESTINATIONS
    if status.counts.is_full:
        yield f"           and more than {hidden} others: the list of an hour is full, the counters go on"
    elif hidden > 0:
        yield f"           and {hidden} others: --json lists them"


def _split(status: Status) -> str:
    counts = status.counts
    parts = [f"{number} {what}" for number, what in ((counts.forwarded, "forwarded"), (counts.under_ip, "below IP")) if number]
    return f" ({', '.join(parts)})" if parts else ""


def _tunnel_json(tunnel: RunningTunnel | None) -> dict[str, Any] | None:
    if tunnel is None:
        return None
    return {
        "handshake_age": tunnel.handshake_age,
        "fwmark": tunnel.fwmark,
        "received": tunnel.received,
        "sent": tunnel.sent,
    }

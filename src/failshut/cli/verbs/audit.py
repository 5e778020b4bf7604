"""`failshut audit`: prove that a ruleset leaks no packet, or show one that does."""

from __future__ import annotations

import os
import sys
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import click

from failshut.audit.prover import why_not
from failshut.cli.audit_given import Given, given_by, read_files
from failshut.cli.report_file import must_be_writable, this_machine, write_report
from failshut.cli.session import Failure, Session, begin, report, session_options
from failshut.host.runs import remember
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.audit.answer.result import Result
    from failshut.audit.world import World
    from failshut.model.ruleset import Ruleset
    from failshut.model.units import Endpoint

# Longer than this, and whoever waits is told how far it is.
PATIENCE = 2.0
_ASKED = ("files", "script", "tunnels", "endpoints", "lan", "user", "cgroup", "diff", "report", "replay")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False))
@click.option(
    "--tunnel", "tunnels", multiple=True, metavar="NAME", help="A tunnel's device; wg* is any that begins so. Repeatable."
)
@click.option("--endpoint", "endpoints", multiple=True, metavar="ADDRESS:PORT", help="The VPN server; tcp:// for TCP. Repeatable.")
@click.option("--lan", "lan", multiple=True, metavar="PREFIX", help="The local network. Repeatable.")
@click.option(
    "--user", metavar="USER[:GROUP]", help="Judge what this user's programs send, by name or number, where the rules confine one."
)
@click.option(
    "--cgroup",
    metavar="PATH",
    help="Judge what programs of this control group send, by path or net_cls number, where the rules confine one.",
)
@click.option("--diff", nargs=2, type=click.Path(dir_okay=False), metavar="OLD NEW", help="What NEW lets out and OLD did not.")
@click.option(
    "--run", "script", metavar="SCRIPT", help="Audit the rules that a script makes, in namespaces of its own. Needs root."
)
@click.option("--replay", is_flag=True, help="Send every packet that is found, in a lab that runs the rules as given. Needs root.")
@click.option("--report", metavar="FILE.html", help="Also write a page to look at.")
@click.option("--sarif", is_flag=True, help="Answer as SARIF 2.1.0, for code scanning.")
@session_options
@click.pass_context
def command(ctx: click.Context, /, *, sarif: bool, **options: Any) -> None:
    """Prove that a ruleset lets no packet past the tunnel, or show a packet that it does.

    FILE is the output of iptables-save, ip6tables-save, `nft list ruleset` or `nft -j list ruleset`, or a file for `nft -f`;
    several are taken as one machine's, and what `ipset save` prints says of its sets what they hold. Without a FILE: what the
    running kernel holds, every table of it, judged by the policy when our lock is among them.

    Every question is asked for IPv4 and IPv6, of all packets at once: new and established flows, DNS, ICMP, the endpoint's other
    ports, forwarded traffic; and whether the tunnel, loopback and replies still work. What the audit does not understand may do
    anything, so `proved` is a proof; `possible` names what it depends on. A `note` is something that the rules do on purpose.

    Tunnel, endpoint and local network are inferred from the rules unless they are said.

    With --run the rules are those that a script makes: also pasted commands, a tunnel's PostUp lines, a unit. It runs as nobody in
    namespaces of its own, with no network, every file read-only; what stands in FILES' place are its arguments.

    With --replay each packet is sent in a lab of network namespaces: confirmed by a captured packet, or refuted, and the finding
    withdrawn.

    Exits with 0 when nothing leaks, 12 when a packet does, 4 when that can't be decided or the kernel may not be asked, 2 when a
    file can't be read whole.
    """
    asked = {name: options.pop(name) for name in _ASKED}
    if asked["report"]:
        if asked["diff"]:
            raise click.UsageError("--report shows one audit; --diff compares two.")
        must_be_writable(asked["report"])
    session = begin(ctx, options)
    if reason := why_not():
        raise Failure(
            f"the prover can't be loaded: {reason}", help="install z3-solver (Debian: python3-z3)", exit_code=Exit.UNKNOWN
        )
    if asked["replay"]:
        _check_replay(asked["diff"])
    code = _difference(asked, session) if asked["diff"] else _audit(asked, session, sarif)
    if code is not Exit.OK:
        raise click.exceptions.Exit(code)


def _audit(asked: dict[str, Any], session: Session, as_sarif: bool) -> Exit:
    from failshut.audit.answer.culprit import refuses_nothing
    from failshut.audit.prove import audit
    from failshut.audit.world.granted import as_granted, opened
    from failshut.cli import audit_output as output

    given = given_by(asked["files"], asked["script"], session)
    reading = given.reading
    running = not asked["files"] and not asked["script"]
    world = _world(reading.ruleset, asked, session, given.accounts, running=running)
    open_now = opened(reading.ruleset) if world.is_strict else ()
    results = audit(as_granted(reading.ruleset) if world.is_strict else reading.ruleset, world, _Progress())
    if asked["replay"]:
        results = _replayed(results, given, world)
    if as_sarif:
        session.print_json(output.sarif(results))
    elif session.json:
        session.print_json(output.audit_json(results, world, reading.findings, open_now))
    else:
        report(reading.findings, session)
        if refuses_nothing(reading.ruleset):
            output.show_open(results, session)
        else:
            output.show(results, world, reading, session)
        output.show_opened(open_now, session)
        output.show_rest(reading.approximations, results, session.verbose > 0)
    if asked["report"]:
        from failshut.report.audit import Audited, audit_page

        write_report(asked["report"], audit_page(Audited(asked["files"], reading, world, results), this_machine()), session)
    leaks = sum(each.is_leak for each in results)
    if running:
        remember("audit", ok=not leaks and not any(each.is_doubt for each in results), leaks=leaks)
    if leaks:
        return Exit.LEAK
    if not reading.is_whole:
        return Exit.USAGE
    return Exit.UNKNOWN if any(each.is_doubt for each in results) else Exit.OK


def _difference(asked: dict[str, Any], session: Session) -> Exit:
    from failshut.audit.answer.explain import explain
    from failshut.audit.difference import difference
    from failshut.audit.world.granted import as_anything
    from failshut.cli import audit_output as output

    old, new = (read_files((each,), session).reading for each in asked["diff"])
    report((*old.findings, *new.findings), session)
    # What may be in the lock's sets is the same for both.
    world = _world(new.ruleset, asked, session, {}, running=False)
    found = difference(as_anything(old.ruleset), as_anything(new.ruleset), world)
    if session.json:
        both = {"opened": found.opened, "closed": found.closed}
        session.print_json({name: [output.result_json(each) for each in results] for name, results in both.items()})
    else:
        for word, results in (("only the new lets out", found.opened), ("only the old let out", found.closed)):
            for result in results:
                words = explain(result, result.witnesses[0])
                click.echo(f"{word} ({result.answer}): {words.packet}\n    by {words.rule}")
        if not found.opened and not found.closed:
            click.echo("proved: the two let out the same packets")
    if not (old.is_whole and new.is_whole):
        return Exit.USAGE
    return Exit.LEAK if found.opened else Exit.OK


def _check_replay(two: object) -> None:
    """Leave where no packet can be sent, before anything else takes its time."""
    from failshut.drill.pool import preflight
    from failshut.drill.workers.process import CannotDrillError

    if two:
        raise click.UsageError("--replay takes one ruleset, not two")
    if os.geteuid() != 0:
        raise Failure(
            "a replay needs root: it builds a lab of network namespaces", help="Run it with sudo.", exit_code=Exit.UNKNOWN
        )
    try:
        preflight(real_root=True)
    except CannotDrillError as error:
        raise Failure(str(error), exit_code=Exit.UNKNOWN) from error


def _replayed(results: tuple[Result, ...], given: Given, world: World) -> tuple[Result, ...]:
    from failshut.drill.replay.start import replay
    from failshut.drill.workers.process import CannotDrillError

    progress = _Progress()
    try:
        return replay(results, given.rules(), given.reading.ruleset, world, lambda done, total: progress("replay", done, total))
    except CannotDrillError as error:
        raise Failure(str(error), exit_code=Exit.UNKNOWN) from error
    finally:
        progress("", 0, 0)


def _world(ruleset: Ruleset, asked: dict[str, Any], session: Session, accounts: dict[str, int], *, running: bool) -> World:
    """Return what the rules are judged against: the policy where our lock runs, else what they seem to assume; and what is said.

    `accounts` are the numbers of users and `:groups` whose names the rules have no more.
    """
    from dataclasses import replace

    from failshut.audit.world.infer import infer

    world = (_by_policy(ruleset, session) if running else None) or infer(ruleset)
    said: dict[str, Any] = {}
    if asked["tunnels"]:
        said["tunnels"] = tuple(asked["tunnels"])
    if asked["endpoints"]:
        said |= {"endpoints": tuple(_endpoint(each) for each in asked["endpoints"]), "servers": ()}
    if asked["lan"]:
        said["lan"] = tuple(_prefix(each) for each in asked["lan"])
    if asked["user"]:
        said |= _sender(asked["user"], accounts) | {"confined": (), "held": (), "alone": asked["user"]}
    if asked["cgroup"]:
        said |= {"confined": (), "held": (), "cgroup": _group(asked["cgroup"])}
    return replace(world, **said, assumed=tuple(each for each in world.assumed if each not in said))


def _sender(text: str, accounts: dict[str, int]) -> dict[str, int]:
    """Return the fields of a world for a user, a user and its group, or a group: `USER`, `USER:GROUP`, `:GROUP`."""
    from failshut.audit.netfilter.words import account_number
    from failshut.read.constants import ACCOUNT

    user, _, group = text.partition(":")
    names = {"uid": user, "gid": group}
    signs = {"uid": "", "gid": ":"}
    for each in names.values():
        if each and not ACCOUNT.fullmatch(each) and not (each.isascii() and each.isdecimal() and int(each) < 1 << 32):
            raise click.UsageError(f"--user {text}: USER, USER:GROUP or :GROUP is wanted, each a name or a number")
    return {key: accounts.get(f"{signs[key]}{each}", account_number(each)) for key, each in names.items() if each}


def _group(text: str) -> str:
    """Return a control group's path without its slashes, or net_cls's number."""
    try:
        return str(int(text, 0))
    except ValueError:
        path = text.removeprefix("/sys/fs/cgroup").strip("/")
    if not path or path[0].isdigit():
        raise click.UsageError(f"--cgroup {text}: a path below /sys/fs/cgroup is wanted, or net_cls's number")
    return path


def _by_policy(ruleset: Ruleset, session: Session) -> World | None:
    from failshut.model.lock import GUARD_NAME, LOCK_NAME

    if not any(each.name == LOCK_NAME for each in ruleset.tables):
        return None
    from failshut.audit.world.allowed import world_of
    from failshut.audit.world.granted import granted
    from failshut.host.network.probe import probe
    from failshut.host.sources import load_policy

    policy = load_policy(session.policy).policy
    if policy is None:
        click.echo(f"failshut: {session.policy} can't be read; the rules are judged as anybody's.", err=True)
        return None
    alone = all(each.name in (LOCK_NAME, GUARD_NAME) for each in ruleset.tables)
    return world_of(policy, probe(policy), alone, granted(ruleset))


def _endpoint(text: str) -> Endpoint:
    from failshut.config.addresses import endpoint
    from failshut.model.units import Endpoint

    try:
        value = endpoint(text)
    except ValueError as error:
        raise click.UsageError(f"--endpoint {text}: {error}") from error
    if not isinstance(value, Endpoint):
        raise click.UsageError(f"--endpoint {text}: an address is wanted, not a name")
    return value


def _prefix(text: str) -> Any:
    try:
        return ip_network(text)
    except ValueError as error:
        raise click.UsageError(f"--lan {text}: {error}") from error


class _Progress:
    """Says how far an audit is, once it takes long and somebody looks."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self.began < PATIENCE:
            return
        click.echo(f"\r{done}/{total} {name:<20}" if name else "\r" + " " * 30 + "\r", nl=False, err=True)

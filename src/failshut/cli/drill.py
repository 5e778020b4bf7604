"""`failshut drill`: the attacks, rehearsed on the user's own policy in namespaces that nothing else can see."""

from __future__ import annotations

import importlib.resources
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Self

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.drill.network.plan import PlanError
from failshut.drill.pool import DEFAULT_WORKERS, WINDOW_SECONDS, CannotDrillError, drill, preflight, rehearse
from failshut.drill.run import Rehearsal
from failshut.drill.scenario import Kind, Outcome, Scenario, Status
from failshut.drill.scenarios import SCENARIOS
from failshut.host.probe import probe
from failshut.model.exits import Exit
from failshut.model.policy import Policy
from failshut.model.units import InterfaceName

# The example's machine: two devices, so that an attack may move from one to the other.
EXAMPLE_DEVICES = (InterfaceName("eth0"), InterfaceName("eth1"))
SHOWN_LEAKS = 5
COLOURS = {
    Status.HELD: "green",
    Status.LEAKED: "red",
    Status.BROKEN: "red",
    Status.VOID: "red",
    Status.LIMIT: "yellow",
    Status.SKIPPED: "yellow",
}


@click.command("drill")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]…")
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and run nothing.")
@click.option("--example", is_flag=True, help="Rehearse the bundled example policy.")
@click.option("--no-control", is_flag=True, help="Skip the runs without the lock; faster, and proves less.")
@click.option("--window", type=click.FloatRange(0.2, 60), default=WINDOW_SECONDS, help="Seconds of traffic after an attack.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=DEFAULT_WORKERS, help="How many labs at the same time.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, scenarios: tuple[str, ...], **options: Any) -> None:
    """Attack the lock in private network namespaces, and judge it by captured packets. Nothing outside is touched.

    Each attack runs twice: without the lock, where it must be seen to leak, and with it. SCENARIO is a name or a pattern such as
    'dns-*'; all of them without.
    """
    session = begin(context, options)
    chosen = choose(scenarios)
    if options["list_only"]:
        show_list(chosen, session)
        return
    rehearsal = prepare(session, example=options["example"], window=options["window"])
    began = time.monotonic()
    with Progress(session, len(chosen)) as progress:
        outcomes = run(rehearsal, chosen, progress, control=not options["no_control"], jobs=options["jobs"])
    seconds = time.monotonic() - began
    if session.json:
        session.print_json(drill_json(outcomes, seconds))
    else:
        show(outcomes, seconds, session)
    if any(each.status.is_failure for each in outcomes):
        raise click.exceptions.Exit(Exit.DRILL_FAILED)


def choose(patterns: Sequence[str]) -> list[Scenario]:
    """Return the scenarios that any pattern names; all of them without a pattern. A pattern that names none is a usage error."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in SCENARIOS):
            raise click.UsageError(f"There is no scenario '{pattern}'. `failshut drill --list` shows them.")
    return [each for name, each in SCENARIOS.items() if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def prepare(session: Session, *, example: bool, window: float) -> Rehearsal:
    """Load the policy, compile the lock and check what a lab needs; leave with a clear message where one can't be built."""
    try:
        preflight(real_root=os.geteuid() == 0)
        if example:
            with importlib.resources.as_file(importlib.resources.files("failshut.examples") / "example.toml") as path:
                return _rehearse(load_policy_or_leave(replace(session, policy=str(path)), "drill"), window, example=True)
        return _rehearse(load_policy_or_leave(session, "drill"), window, example=False)
    except CannotDrillError as error:
        raise Failure(
            str(error), help="the drill needs root, or user namespaces and /dev/net/tun", exit_code=Exit.UNKNOWN
        ) from error
    except PlanError as error:
        raise Failure(f"no lab can be made of this policy: {error}", help="try `failshut drill --example`") from error


def _rehearse(policy: Policy, window: float, *, example: bool) -> Rehearsal:
    facts = probe(policy)
    return rehearse(policy, replace(facts, underlay=EXAMPLE_DEVICES) if example else facts, window)


def run(rehearsal: Rehearsal, scenarios: Sequence[Scenario], progress: Progress, *, control: bool, jobs: int) -> list[Outcome]:
    """Run the drill; leave with a clear message where the machine refuses a lab."""
    try:
        return drill(rehearsal, scenarios, progress.done, control=control, workers=jobs)
    except CannotDrillError as error:
        raise Failure(
            str(error), help="the drill needs root, or user namespaces and /dev/net/tun", exit_code=Exit.UNKNOWN
        ) from error


class Progress:
    """One line as each scenario ends; on a terminal a bar below them."""

    def __init__(self, session: Session, total: int) -> None:
        self._session = session
        self._bar: RichProgress | None = None
        if session.use_color and not session.json and sys.stdout.isatty():
            columns = (TextColumn("rehearsing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = RichProgress(*columns, transient=True)
            self._task = self._bar.add_task("drill", total=total)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def done(self, outcome: Outcome) -> None:
        """Show one outcome."""
        if self._session.json:
            return
        line = outcome_line(outcome, self._session)
        if self._bar:
            self._bar.console.print(Text.from_ansi(line), soft_wrap=True)
            self._bar.advance(self._task)
        else:
            click.echo(line)


def outcome_line(outcome: Outcome, session: Session) -> str:
    """Return an outcome in one line, and each leaked packet in one line below it."""
    word = session.style(f"{verdict(outcome):11}", fg=COLOURS[outcome.status], bold=outcome.status.is_failure)
    reason = f" ({outcome.reason})" if outcome.reason else ""
    lines = [f"{word} {outcome.scenario.name:24} {outcome.scenario.title}{reason}"]
    if outcome.status in (Status.LEAKED, Status.LIMIT):
        shown = outcome.lock.leaks[:SHOWN_LEAKS]
        lines += [f"            {each}" for each in shown]
        lines += [f"            … and {outcome.lock.leaked - len(shown)} more"] if outcome.lock.leaked > len(shown) else []
    return "\n".join(lines)


def verdict(outcome: Outcome) -> str:
    """Return the word for an outcome: what should work is not "held", it works."""
    works = outcome.scenario.kind is Kind.WORKS and outcome.status is Status.HELD
    return "works" if works else str(outcome.status)


def show(outcomes: Sequence[Outcome], seconds: float, session: Session) -> None:
    """Print the table of attacks, what still works, and the sum."""
    console = Console(no_color=not session.use_color, highlight=False, width=None if sys.stdout.isatty() else 140)
    for kind, table in ((Kind.ATTACK, attack_table), (Kind.WORKS, works_table)):
        of_kind = [each for each in outcomes if each.scenario.kind is kind]
        if of_kind:
            console.print(table(of_kind))
    for line in summary(outcomes, seconds):
        click.echo(line)


def attack_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of attacks: what was sent, what the policy allows, what leaked, and what leaks without the lock."""
    table = Table("scenario", "attack", title="Attacks", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("sent", "allowed", "leaked", "without the lock"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for each in outcomes:
        ran = not each.lock.skipped
        numbers = [each.lock.sent, sum(each.lock.allowed.values()), each.lock.leaked] if ran else ["", "", ""]
        control = each.control.leaked if each.control and ran else ""
        colour = COLOURS[each.status]
        cells = [f"{number:,}" if isinstance(number, int) else number for number in (*numbers, control)]
        table.add_row(each.scenario.name, each.scenario.title, *cells, Text(each.status, style=colour))
    return table


def works_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of what must still work, each seen at the far side."""
    table = Table(
        "scenario", "must still work", title="What still works with the lock on", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("seen", justify="right")
    table.add_column("leaked", justify="right")
    table.add_column("verdict")
    for each in outcomes:
        seen = f"{sum(each.lock.works.values())} of {len(each.lock.works)}" if each.lock.works else ""
        table.add_row(
            each.scenario.name, each.scenario.title, seen, f"{each.lock.leaked}", Text(verdict(each), style=COLOURS[each.status])
        )
    return table


def summary(outcomes: Sequence[Outcome], seconds: float) -> list[str]:
    """Return the last lines: what was not proven, and the sum."""
    counts = Counter(verdict(each) for each in outcomes)
    lines = [f"{each.status}: {each.scenario.name}: {each.reason}" for each in outcomes if each.reason]
    lines += [
        f"not tried here: {each.scenario.name}: {probe}: {why}" for each in outcomes for probe, why in each.lock.unavailable.items()
    ]
    judged = [each for each in outcomes if each.scenario.kind is Kind.ATTACK and each.status in (Status.HELD, Status.LEAKED)]
    sent, leaked = sum(each.lock.sent for each in judged), sum(each.lock.leaked for each in judged)
    without = sum(each.control.leaked for each in judged if each.control)
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines.append(f"{len(outcomes)} scenarios in {seconds:.0f} s: {words}.")
    lines.append(f"{sent:,} packets were sent against the lock: {leaked:,} leaked. Without it, {without:,} did.")
    limits = [each for each in outcomes if each.status is Status.LIMIT]
    if limits:
        beyond = sum(each.lock.leaked for each in limits)
        lines.append(
            f"Not counted there: {beyond:,} packets in {len(limits)} known limits, each named above (docs/known-limits.md)."
        )
    return lines


def show_list(scenarios: Sequence[Scenario], session: Session) -> None:
    """Print the scenarios' names and titles."""
    if session.json:
        session.print_json([_scenario_json(each) for each in scenarios])
        return
    for each in scenarios:
        click.echo(f"{each.name:24} {each.title}")


def _scenario_json(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "kind": str(scenario.kind),
        "covers": list(scenario.covers),
        "needs": [str(each) for each in scenario.needs],
        "limit": scenario.limit,
    }


def drill_json(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Return the drill as JSON with stable keys."""
    return {
        "ok": not any(each.status.is_failure for each in outcomes),
        "seconds": round(seconds, 1),
        "scenarios": [_outcome_json(each) for each in outcomes],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    lock, control = outcome.lock, outcome.control
    return {
        **_scenario_json(outcome.scenario),
        "status": str(outcome.status),
        "reason": outcome.reason,
        "sent": lock.sent,
        "frames": lock.frames,
        "allowed": dict(lock.allowed),
        "leaked": lock.leaked,
        "leaks": list(lock.leaks),
        "without_the_lock": control.leaked if control else None,
        "probes": {
            name: {"lock": count, "control": control.probes.get(name) if control else None} for name, count in lock.probes.items()
        },
        "works": dict(lock.works),
        "not_tried": dict(lock.unavailable),
        "notes": list(lock.notes),
    }

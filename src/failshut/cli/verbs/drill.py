"""`failshut drill`: the attacks, rehearsed on the user's own policy in namespaces that nothing else can see."""

from __future__ import annotations

import importlib.resources
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.report_file import must_be_writable, this_machine, write_report
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.drill.choices import DEFAULT_WORKERS, WINDOW_SECONDS, Backend
from failshut.model.exits import Exit
from failshut.model.units import InterfaceName

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from failshut.drill.judgement.outcome import Outcome
    from failshut.drill.rules.source import Loadable
    from failshut.drill.run import Rehearsal
    from failshut.drill.scenario import Scenario
    from failshut.model.policy import Policy

# The example's machine: two devices, so that an attack may move from one to the other.
EXAMPLE_DEVICES = (InterfaceName("eth0"), InterfaceName("eth1"))
# With a report to be looked at: seconds in which the tunnel carries undisturbed before each attack.
LEAD_SECONDS = 0.5


@click.command("drill")
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]…")
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and run nothing.")
@click.option("--example", is_flag=True, help="Rehearse the bundled example policy.")
@click.option("--no-control", is_flag=True, help="Skip the runs without the lock; faster, and proves less.")
@click.option(
    "--window", type=click.FloatRange(0.2, 60), metavar="SECONDS", default=WINDOW_SECONDS, help="Traffic after an attack."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), metavar="N", default=DEFAULT_WORKERS, help="How many labs at the same time."
)
@click.option("--beside", multiple=True, metavar="FILE", help="Try each attack under these rules too. Repeatable.")
@click.option(
    "--backend",
    type=click.Choice([str(each) for each in Backend]),
    help="Rehearse the lock as this backend loads it, instead of the policy's own.",
)
@click.option("--report", metavar="FILE.html", help="Also write a page to look at: the lab, a timeline for each attack.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, scenarios: tuple[str, ...], **options: Any) -> None:
    """Attack the lock in private network namespaces, and judge it by captured packets. Nothing outside is touched.

    Each attack runs twice: without the lock, where it must be seen to leak, and with it. SCENARIO is a name or a pattern such as
    'dns-*'; all of them without.
    """
    from failshut.cli.drill_output import drill_json, show, show_list
    from failshut.drill.judgement.tally import tally
    from failshut.host.runs import remember

    session = begin(context, options)
    chosen = choose(scenarios)
    if options["list_only"]:
        show_list(chosen, session)
        return
    if options["report"]:
        must_be_writable(options["report"])
    others = tuple(part for file in options["beside"] for part in _beside(file))
    rehearsal = replace(
        prepare(session, example=options["example"], window=options["window"], backend=options["backend"]),
        beside=others,
        lead=LEAD_SECONDS if options["report"] else 0.0,
    )
    began = time.monotonic()
    with Progress(session, len(chosen)) as progress:
        outcomes = run(rehearsal, chosen, progress, control=not options["no_control"], jobs=options["jobs"])
    seconds = time.monotonic() - began
    if session.json:
        session.print_json(drill_json(outcomes, seconds))
    else:
        show(outcomes, seconds, session, _names(options["beside"]))
    if options["report"]:
        _report(options, rehearsal, outcomes, seconds, session)
    failed = any(each.status.is_failure for each in outcomes)
    if not (options["example"] or scenarios):
        remember("drill", ok=not failed, leaks=tally(outcomes).leaked)
    if failed:
        raise click.exceptions.Exit(Exit.DRILL_FAILED)


def _beside(file: str) -> tuple[Loadable, ...]:
    from failshut.drill.rules.beside import loadable

    try:
        return loadable(Path(file).read_bytes(), Path(file).name)
    except OSError as error:
        raise Failure(f"--beside {file}: {error.strerror}", exit_code=Exit.USAGE) from error
    except ValueError as error:
        raise Failure(f"--beside {file}: {error}", exit_code=Exit.USAGE) from error


def _names(files: Sequence[str]) -> str:
    return ", ".join(Path(each).name for each in files)


def _report(options: dict[str, Any], rehearsal: Rehearsal, outcomes: Sequence[Outcome], seconds: float, session: Session) -> None:
    from failshut.drill.network.plan import make_plan
    from failshut.drill.scenarios import THEMES
    from failshut.report.drill import Drilled, drill_page

    drilled = Drilled(
        policy=rehearsal.policy,
        plan=make_plan(rehearsal.policy, rehearsal.facts),
        outcomes=tuple(outcomes),
        themes=THEMES,
        seconds=seconds,
        beside=_names(options["beside"]),
        is_example=options["example"],
        as_root=rehearsal.real_root,
    )
    write_report(options["report"], drill_page(drilled, this_machine()), session)


def choose(patterns: Sequence[str]) -> list[Scenario]:
    """Return the scenarios that any pattern names; all of them without a pattern. A pattern that names none is a usage error."""
    from failshut.drill.scenarios import SCENARIOS

    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in SCENARIOS):
            raise click.UsageError(f"There is no scenario '{pattern}'. `failshut drill --list` shows them.")
    return [each for name, each in SCENARIOS.items() if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def prepare(session: Session, *, example: bool, window: float, backend: str | None = None) -> Rehearsal:
    """Load the policy, compile the lock and check what a lab needs; leave with a clear message where one can't be built."""
    from failshut.drill.network.plan import PlanError
    from failshut.drill.pool import preflight
    from failshut.drill.workers.process import CannotDrillError

    try:
        preflight(real_root=os.geteuid() == 0)
        if example:
            with importlib.resources.as_file(importlib.resources.files("failshut.examples") / "example.toml") as path:
                return _rehearse(load_policy_or_leave(replace(session, policy=str(path)), "drill"), window, backend, example=True)
        return _rehearse(load_policy_or_leave(session, "drill"), window, backend, example=False)
    except CannotDrillError as error:
        raise Failure(
            str(error), help="the drill needs root, or user namespaces and /dev/net/tun", exit_code=Exit.UNKNOWN
        ) from error
    except PlanError as error:
        raise Failure(f"no lab can be made of this policy: {error}", help="try `failshut drill --example`") from error


def _rehearse(policy: Policy, window: float, backend: str | None, *, example: bool) -> Rehearsal:
    from failshut.drill.pool import rehearse
    from failshut.host.network.probe import probe

    facts = probe(policy)
    chosen = Backend(backend) if backend else None
    return rehearse(policy, replace(facts, underlay=EXAMPLE_DEVICES) if example else facts, window, chosen)


def run(rehearsal: Rehearsal, scenarios: Sequence[Scenario], progress: Progress, *, control: bool, jobs: int) -> list[Outcome]:
    """Run the drill; leave with a clear message where the machine refuses a lab."""
    from failshut.drill.pool import drill
    from failshut.drill.workers.process import CannotDrillError

    try:
        return drill(rehearsal, scenarios, progress.done, control=control, workers=jobs)
    except CannotDrillError as error:
        raise Failure(
            str(error), help="the drill needs root, or user namespaces and /dev/net/tun", exit_code=Exit.UNKNOWN
        ) from error


class Progress:
    """One line as each scenario ends; on a terminal a bar below them."""

    def __init__(self, session: Session, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

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
        from rich.text import Text

        from failshut.cli.drill_output import outcome_line

        if self._session.json:
            return
        line = outcome_line(outcome, self._session)
        if self._bar:
            self._bar.console.print(Text.from_ansi(line), soft_wrap=True)
            self._bar.advance(self._task)
        else:
            # From a thread, which has no context of click's.
            click.echo(line, color=self._session.forces_color)

"""What a drill says: a line as each scenario ends, the tables, the sum; and the same as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from failshut.cli.session import Session
from failshut.drill.judgement.outcome import Status

if TYPE_CHECKING:
    from rich.table import Table

    from failshut.drill.judgement.outcome import Outcome, RunResult
    from failshut.drill.scenario import Scenario

SHOWN_LEAKS = 5
COLOURS = {
    Status.HELD: "green",
    Status.LEAKED: "red",
    Status.BROKEN: "red",
    Status.VOID: "red",
    Status.LIMIT: "yellow",
    Status.SKIPPED: "yellow",
}


def outcome_line(outcome: Outcome, session: Session) -> str:
    """Return an outcome in one line, and each leaked packet in one line below it."""
    word = session.style(f"{outcome.word:11}", fg=COLOURS[outcome.status], bold=outcome.status.is_failure)
    reason = f" ({outcome.reason})" if outcome.reason else ""
    lines = [f"{word} {outcome.scenario.name:24} {outcome.scenario.title}{reason}"]
    if outcome.status in (Status.LEAKED, Status.LIMIT):
        shown = outcome.lock.leaks[:SHOWN_LEAKS]
        lines += [f"            {each}" for each in shown]
        lines += [f"            … and {outcome.lock.leaked - len(shown)} more"] if outcome.lock.leaked > len(shown) else []
    return "\n".join(lines)


def show(outcomes: Sequence[Outcome], seconds: float, session: Session, beside: str = "") -> None:
    """Print the table of attacks, what still works, and the sum."""
    from rich.console import Console

    from failshut.drill.scenario import Kind

    width = None if sys.stdout.isatty() else 140
    console = Console(no_color=not session.use_color, force_terminal=session.forces_color, highlight=False, width=width)
    attacks = [each for each in outcomes if each.scenario.kind is Kind.ATTACK]
    works = [each for each in outcomes if each.scenario.kind is Kind.WORKS]
    if attacks:
        console.print(attack_table(attacks, beside))
    if works:
        console.print(works_table(works))
    for line in summary(outcomes, seconds, beside):
        click.echo(line)


def attack_table(outcomes: Sequence[Outcome], beside: str = "") -> Table:
    """Return the table of attacks: what was sent, what the policy allows, what leaked, and what leaks without the lock.

    `beside` names the other rules that they were tried under.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("scenario", "attack", title="Attacks", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("sent", "allowed", "leaked", "without the lock", *([f"under {beside}"] if beside else [])):
        table.add_column(Text(heading), justify="right")
    table.add_column("verdict")
    for each in outcomes:
        ran = not each.lock.skipped
        numbers = [each.lock.sent, sum(each.lock.allowed.values()), each.lock.leaked] if ran else ["", "", ""]
        others = [each.control, *([each.beside] if beside else [])]
        leaked = [_leaked(other) if ran else "" for other in others]
        colour = COLOURS[each.status]
        cells = [f"{number:,}" if isinstance(number, int) else number for number in (*numbers, *leaked)]
        table.add_row(each.scenario.name, each.scenario.title, *cells, Text(each.status, style=colour))
    return table


def _leaked(other: RunResult | None) -> int | str:
    if other is None:
        return ""
    return other.leaked if not other.reason else "skipped" if other.skipped else "void"


def works_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of what must still work, each seen at the far side."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "scenario", "must still work", title="What still works with the lock on", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("seen", justify="right")
    table.add_column("leaked", justify="right")
    table.add_column("verdict")
    for each in outcomes:
        seen = f"{sum(each.lock.works.values())} of {len(each.lock.works)}" if each.lock.works else ""
        table.add_row(
            each.scenario.name, each.scenario.title, seen, f"{each.lock.leaked}", Text(each.word, style=COLOURS[each.status])
        )
    return table


def summary(outcomes: Sequence[Outcome], seconds: float, beside: str = "") -> list[str]:
    """Return the last lines: what was not proven, and the sum."""
    from failshut.drill.judgement.tally import tally

    sums = tally(outcomes)
    lines = [f"{each.status}: {each.scenario.name}: {each.reason}" for each in outcomes if each.reason]
    lines += [
        f"not tried here: {each.scenario.name}: {probe}: {why}" for each in outcomes for probe, why in each.lock.unavailable.items()
    ]
    others = [each.beside for each in outcomes if each.beside and not each.beside.skipped]
    if unheard := Counter(each.reason for each in others if each.reason):
        lines += [f"under {beside}, {count} of the attacks prove nothing: {reason}" for reason, count in unheard.items()]
    words = ", ".join(f"{count} {word}" for word, count in sums.words.items())
    lines.append(f"{len(outcomes)} scenarios in {seconds:.0f} s: {words}.")
    without = f" Without it, {sums.without:,} did." if sums.without is not None else ""
    under = f" Under {beside}, {sums.beside:,} did." if sums.beside is not None else ""
    lines.append(f"{sums.sent:,} packets were sent against the lock: {sums.leaked:,} leaked.{without}{under}")
    if sums.limits:
        lines.append(
            f"Not counted there: {sums.beyond:,} packets in {sums.limits} known limits, each named above (docs/known-limits.md)."
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
    from failshut.drill.timeline import BIN_SECONDS

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
        "beside": _beside_json(outcome.beside),
        "timelines": {
            "bin_seconds": BIN_SECONDS,
            "lock": _timeline_json(lock),
            "control": _timeline_json(control),
            "beside": _timeline_json(outcome.beside),
        },
        "probes": {
            name: {"lock": count, "control": control.probes.get(name) if control else None} for name, count in lock.probes.items()
        },
        "works": dict(lock.works),
        "not_tried": dict(lock.unavailable),
        "notes": list(lock.notes),
    }


def _beside_json(run: RunResult | None) -> dict[str, Any] | None:
    return {"leaked": run.leaked, "sent": run.sent, "leaks": list(run.leaks), "reason": run.reason} if run else None


def _timeline_json(run: RunResult | None) -> dict[str, Any] | None:
    if run is None or not run.timeline.sent:
        return None
    line = run.timeline
    rows = {"sent": line.sent, "tunnel": line.tunnel, "allowed": line.allowed, "leaked": line.leaked, "blocked": line.blocked}
    return {"attack_began": line.began, "attack_ended": line.ended, **{name: list(row) for name, row in rows.items()}}

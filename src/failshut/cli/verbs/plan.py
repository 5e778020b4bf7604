"""`failshut plan`: what arming would change in the kernel and on disk."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.fleet import plan_many
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Session, begin, session_options
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.model.plan import FileChange, Plan

# With one of the lock's own bits (0x7f000000), which no tunnel's mark has.
_MARK = re.compile(r"\b0x(?!00|80)[0-9a-f]{8}\b")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("plan")
@click.argument("policies", metavar="[POLICY]...", nargs=-1)
@click.option(
    "--against", metavar="DIRECTORY", type=click.Path(path_type=Path), help="Where each POLICY is as it was, by its name."
)
@click.option("--exit-code", is_flag=True, help=f"Exit with {int(Exit.CHANGES)} when arming would change something.")
@session_options
@click.pass_context
def command(context: click.Context, /, policies: tuple[str, ...], against: Path | None, exit_code: bool, **options: Any) -> None:
    """Show what `arm` would change, as a diff: rules in the kernel, files, the tunnels' marks. Changes nothing.

    Where a fleet's policies are kept in one place: `plan POLICY... --against DIRECTORY` shows how the rules of each differ from
    those of the file of the same name in DIRECTORY, on any machine, and asks no host.
    """
    from failshut.arming.kernel.load import kernel_listing
    from failshut.arming.plan import make_plan
    from failshut.arming.survey import surveyed

    session = begin(context, options)
    if bool(policies) != bool(against):
        raise click.UsageError("POLICY... and --against DIRECTORY go together.")
    if against:
        plan_many(policies, against, session, exit_code=exit_code)
        return
    policy = load_policy_or_leave(session, "plan")
    try:
        plan = make_plan(policy, surveyed(policy), kernel_listing(policy.backend))
    except ArmingError as error:
        leave(error)
    if session.json:
        session.print_json(plan_json(plan))
    else:
        for line in plan_lines(plan, session):
            click.echo(line)
    if exit_code and plan.is_change:
        raise click.exceptions.Exit(Exit.CHANGES)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON with stable keys."""
    return {
        "changes": plan.is_change,
        "kernel": list(_without_secrets(plan.difference)),
        "routing": list(_without_secrets(plan.routing)),
        "files": [{"path": each.path, "diff": list(_without_secrets(file_diff(each)))} for each in plan.files if each.is_change],
        "sysctls": [{"path": each.path, "before": each.before, "after": each.after} for each in plan.sysctls],
        "marks": [{"interface": each.interface, "before": each.before, "after": each.after} for each in plan.marks],
        "rebuilds_initramfs": plan.rebuilds_initramfs,
        "notes": list(plan.notes),
    }


def plan_lines(plan: Plan, session: Session) -> Iterator[str]:
    """Yield the plan as a person reads it."""
    from failshut.arming.boot.initramfs import COMMAND
    from failshut.boot.places import UNITS

    for note in plan.notes:
        yield session.style(f"note: {note}", fg="yellow")
    if not plan.is_change:
        yield "Nothing to change: the kernel and the files are as the policy wants them."
        return
    yield from (_coloured(line, session) for line in _without_secrets(plan.difference))
    yield from (_coloured(line, session) for line in _without_secrets(plan.routing))
    for change in plan.configs:
        yield from (_coloured(line, session) for line in file_diff(change))
    yield from _written([each for each in plan.staged + plan.boot if each.is_change])
    for setting in plan.sysctls:
        yield f"set {setting.path.replace('/', '.')} to {setting.after}  (it is {setting.before} now)"
    if plan.with_systemd and any(each.is_change for each in plan.boot):
        yield f"systemctl enable {' '.join(UNITS)}"
    if plan.rebuilds_initramfs:
        yield f"{' '.join(COMMAND)}  ({'with' if plan.initramfs else 'without'} the lock; this takes a while)"
    for mark in plan.marks:
        yield f"wg set {mark.interface} fwmark {mark.after}  (it has none now)"


def _without_secrets(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines without the marks that are this host's own: whoever knows them gets a packet past the lock."""
    return (_MARK.sub(lambda found: found[0] if int(found[0], 16) & 0xFFFFFF in (0, 0xFFFFFF) else "(own)", line) for line in lines)


def _written(changes: Iterable[FileChange]) -> Iterator[str]:
    """Yield a line for each file; the drop-ins of the network managers, which all say the same, share one."""
    for text, alike in itertools.groupby(changes, key=lambda each: each.after):
        first, *others = (each.path for each in alike)
        also = f" and for {', '.join(Path(each).parent.stem for each in others)}" if others else ""
        yield f"write {first}{also} ({len(text.splitlines())} lines, for the next boot)"


def file_diff(change: FileChange) -> Iterator[str]:
    """Yield a unified diff of one file."""
    before = (change.before or "").splitlines()
    yield from difflib.unified_diff(before, change.after.splitlines(), change.path, change.path, lineterm="", n=1)


def _coloured(line: str, session: Session) -> str:
    colour = _COLOURS.get(line[:1])
    return session.style(line, fg=colour) if colour else line

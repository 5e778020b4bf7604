"""`failshut arm`: check, stage, load in one transaction, read back."""

from __future__ import annotations

from typing import Any

import click

from failshut.arming.arm import arm, kernel_listing, one_at_a_time
from failshut.arming.errors import ArmingError
from failshut.arming.plan import make_plan
from failshut.arming.state import Record
from failshut.cli.failures import leave
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Session, begin, session_options
from failshut.host.probe import probe
from failshut.model.plan import Plan
from failshut.model.policy import Policy


@click.command("arm")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Arm the lock: from now on nothing leaves but through the tunnel, and what the policy allows.

    Arming again while armed replaces the rules in one transaction; no packet slips through in between. If anything fails, the
    kernel and every file are put back as they were.
    """
    session = begin(context, options)
    policy = load_policy_or_leave(session, "arm")
    try:
        with one_at_a_time():
            before = kernel_listing()
            plan = make_plan(policy, probe(policy), before.ruleset())
            record = arm(policy, plan, before, report=lambda line: _say(line, session))
    except ArmingError as error:
        leave(error)
    _conclude(policy, plan, record, session)


def _say(line: str, session: Session) -> None:
    if not session.json:
        click.echo(f"  {line}", err=True)


def _conclude(policy: Policy, plan: Plan, record: Record, session: Session) -> None:
    if session.json:
        session.print_json({"armed": True, "tunnels": record.tunnels, "under_ip": record.guarded, "notes": list(plan.notes)})
        return
    for note in plan.notes:
        click.echo(session.style(f"note: {note}", fg="yellow"), err=True)
    tunnels = ", ".join(str(each.interface) for each in policy.tunnels)
    word = session.style("Armed.", fg="green", bold=True)
    click.echo(f"{word} Nothing leaves but through {tunnels}, and what {policy.path} allows.")

"""`failshut arm`: check, stage, load in one transaction, read back, and have every boot load it."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Session, begin, session_options
from failshut.host.service import systemd

if TYPE_CHECKING:
    from failshut.arming.armed.record import Record
    from failshut.model.plan import Plan

# In seconds; for whoever may have locked themselves out.
OVER_SSH = 60


@click.command("arm")
@click.option(
    "--confirm-within",
    type=click.IntRange(0, 86_400),
    metavar="SECONDS",
    default=None,
    help=f"Undo everything unless `failshut confirm` comes in time; 0 for never [{OVER_SSH} over SSH, else 0].",
)
@click.option("--i-know", is_flag=True, help="Arm also where the audit can't decide whether the lock leaks.")
@session_options
@click.pass_context
def command(context: click.Context, /, confirm_within: int | None, i_know: bool, **options: Any) -> None:
    """Arm the lock: from now on nothing leaves but through the tunnel, and what the policy allows.

    What would be loaded is read back and proved first, as by `failshut audit`: a lock that lets out a packet which the policy does
    not allow is refused with exit code 12, and nothing is changed.

    Arming again while armed replaces the rules in one transaction; no packet slips through in between. Where nothing has changed
    since, nothing is loaded. If anything fails, the kernel and every file are put back as they were. With systemd, every boot loads
    the lock before the first interface is up, and the network managers and wg-quick require it: no lock, no network.

    With --confirm-within the lock is on at once, but a timer of systemd's undoes it, whatever becomes of this session, unless you
    say `failshut confirm` in time. Open a new session before you do: that is the proof that you can still get in.
    """
    from failshut.arming.arm import arm
    from failshut.arming.armed.unchanged import inputs_of
    from failshut.arming.exclusive import one_at_a_time
    from failshut.arming.kernel.load import kernel_listing
    from failshut.arming.plan import make_plan
    from failshut.arming.survey import surveyed

    session, began = begin(context, options), time.time()
    # Before what it arms with comes in: nothing of it is thrown away before the end.
    gc.disable()
    if not confirm_within and (armed := _still_armed(session)):
        _say("nothing has changed: the kernel holds it word for word, and the next boot loads it", session)
        _conclude(armed, 0, session)
        return
    policy = load_policy_or_leave(session, "arm")
    try:
        with one_at_a_time():
            before = kernel_listing(policy.backend)
            plan = make_plan(policy, surveyed(policy), before)
            seconds = _seconds(confirm_within, plan)
            record = arm(
                policy,
                plan,
                before,
                report=lambda line: _say(line, session),
                confirm_within=seconds,
                undecided_is_fine=i_know,
                inputs=inputs_of(policy, plan, began),
            )
    except ArmingError as error:
        leave(error)
    _conclude(record, seconds, session)


def _still_armed(session: Session) -> Record | None:
    from failshut.arming.armed.unchanged import still_armed
    from failshut.arming.exclusive import one_at_a_time

    try:
        with one_at_a_time():
            return still_armed(session.policy)
    except ArmingError:
        # Said below, after what the policy's own mistakes are.
        return None


def _seconds(asked: int | None, plan: Plan) -> int:
    """Return how long the arming waits for its confirmation; 0 when it needs none."""
    from failshut.host.network.surroundings import is_over_ssh

    if asked is not None:
        if asked and not plan.with_systemd:
            raise ArmingError("nothing here can undo it in time: systemd does not run", help="arm without --confirm-within")
        return asked
    # What changes no rule can lock nobody out.
    return OVER_SSH if plan.difference and systemd.is_running() and is_over_ssh() else 0


def _say(line: str, session: Session) -> None:
    if not session.json:
        click.echo(f"  {line}", err=True)


def _conclude(record: Record, seconds: int, session: Session) -> None:
    if session.json:
        session.print_json(
            {
                "armed": True,
                "audit": record.audit,
                "confirm_within": seconds or None,
                "tunnels": record.tunnels,
                "under_ip": record.guarded,
                "at_boot": record.with_systemd and not seconds,
                "notes": list(record.notes),
            }
        )
        return
    for note in record.notes:
        click.echo(session.style(f"note: {note}", fg="yellow"), err=True)
    tunnels = ", ".join(record.tunnels)
    word = session.style("Armed.", fg="green", bold=True)
    click.echo(f"{word} Nothing leaves but through {tunnels}, and what {session.policy} allows.")
    if seconds:
        click.echo(
            session.style(f"Undone in {seconds} s", fg="yellow", bold=True)
            + " unless you confirm: open a new session, and run `failshut confirm` there."
        )

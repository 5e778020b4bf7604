"""`failshut verify`: the guide's three tests on the real machine, judged by packets; and `--after-boot`, which only looks."""

from __future__ import annotations

import contextlib
import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import DEFAULT_POLICY, Failure, Session, begin, session_options
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.model.units import Address
from failshut.verify.boot import Answer
from failshut.verify.interrupt import deferred
from failshut.verify.outcome import Outcome, Report, Verdict

if TYPE_CHECKING:
    from failshut.arming.armed.status import Status
    from failshut.model.policy import Policy
    from failshut.verify.boot import Check
    from failshut.verify.run import Plan

# Not arming's own: a tunnel's hook that arms must not fail while the tunnel is brought back.
_LOCK_PATH = Path("/run/failshut-verify.lock")
WINDOW_SECONDS = 3.0
# Taking a tunnel down and up takes about this long, beside the windows.
_HANDLING_SECONDS = 6
_COLOUR = {Verdict.OK: "green", Verdict.LEAK: "red", Verdict.VOID: "yellow"}
_ANSWER_COLOUR = {Answer.OK: "green", Answer.LEAK: "red", Answer.UNKNOWN: "yellow"}
_INTERRUPTED = 130


@click.command("verify")
@click.option("--after-boot", is_flag=True, help="Change nothing: was the lock on before the network, in this boot?")
@click.option(
    "--window", type=click.FloatRange(0.2, 60), metavar="SECONDS", default=WINDOW_SECONDS, help="How long each test watches [3]."
)
@click.option("--upload", "uploads", multiple=True, metavar="ADDRESS:PORT", help="Also upload there by TCP, through the tunnel.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, after_boot: bool, yes: bool, **options: Any) -> None:
    """Take the tunnel down, ask for names, let it crash, and see by the packets that nothing leaves. Brings the tunnel back.

    Connections through the tunnel are interrupted, once for each test. Every packet that leaves meanwhile is explained by the
    policy or is a leak, your own programs' packets too. Exit codes: 0 held, 12 a leak, 1 it proves nothing or the tunnel did not
    come back, 3 disarmed, 4 not permitted.
    """
    from failshut.verify.ground import survey
    from failshut.verify.run import Plan
    from failshut.verify.tunnel import standing

    session = begin(context, options)
    if after_boot:
        look_back(session)
        return
    targets = tuple(map(_upload, options["uploads"]))
    status = _must_be_armed(session)
    if session.policy == DEFAULT_POLICY and status.record:
        # The policy that is armed, wherever it lies.
        session = session.updated({"policy": status.record.policy})
    policy = load_policy_or_leave(session, "verify")
    _say_what_is_not_armed(policy, status, session)
    ground = survey(policy)
    by_iptables = status.record is not None and status.record.backend == BackendName.IPTABLES
    plan = Plan(policy, ground, standing(policy), options["window"], targets, frames=not by_iptables)
    _announce(plan, session)
    if not yes:
        _ask()
    _leave(_run(plan, session), session)


def _run(plan: Plan, session: Session) -> Report:
    # With a level set, wireguard-go would keep our pipe open for as long as it lives.
    from failshut.arming.exclusive import one_at_a_time
    from failshut.verify.run import verify

    os.environ.pop("LOG_LEVEL", None)
    try:
        with one_at_a_time(_LOCK_PATH, "verifying"), deferred() as interrupt:
            return verify(plan, interrupt, lambda outcome: _progress(outcome, session), lambda line: _say(line, session))
    except ArmingError as error:
        leave(error)
    except PermissionError as error:
        raise Failure(f"frames can't be captured: {error.strerror}", help="run it with sudo", exit_code=Exit.UNKNOWN) from error


def _upload(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    try:
        address, number = ip_address(host.strip("[]")), int(port)
    except ValueError as error:
        raise click.UsageError(f"--upload takes ADDRESS:PORT, an IPv6 address in brackets; {text!r} is neither.") from error
    if not 0 < number < 1 << 16:
        raise click.UsageError(f"--upload: {number} is no port.")
    return address, number


def _must_be_armed(session: Session) -> Status:
    """Return the status; leave where the kernel holds no lock: taking the tunnel down would then leak for sure."""
    from failshut.arming.armed.status import read_status
    from failshut.model.lock import LockState

    status = read_status()
    match status.state:
        case LockState.UNKNOWN:
            raise Failure(f"the lock's state can't be known: {status.reason}", help="run it with sudo", exit_code=Exit.UNKNOWN)
        case LockState.DISARMED:
            raise Failure("the lock is disarmed; there is nothing to verify", help="`failshut arm`", exit_code=Exit.DISARMED)
        case LockState.DRIFT if not status.listing.tables:
            raise Failure(f"the lock is not there: {status.reason}", help="`failshut arm`", exit_code=Exit.DISARMED)
        case LockState.DRIFT:
            reason = status.reason or "the kernel's rules are not the armed ones; `failshut status` shows the difference"
            _say(session.style(f"drift: {reason}. The packets decide.", fg="yellow"), session)
        case LockState.ARMED:
            pass
        case _:
            assert_never(status.state)
    if status.reverts_in is not None:
        raise Failure("an arming waits to be confirmed, and may be undone meanwhile", help="`failshut confirm`, then verify")
    return status


def _say_what_is_not_armed(policy: Policy, status: Status, session: Session) -> None:
    from failshut.arming.plan import make_plan
    from failshut.arming.survey import surveyed_as_armed
    from failshut.model.lock import LockState

    if status.state is LockState.ARMED and make_plan(policy, surveyed_as_armed(policy), status.listing).difference:
        words = f"{policy.path} is not what is armed (`failshut plan` shows the difference), and packets are judged by that file"
        _say(session.style(f"note: {words}", fg="yellow"), session)


def _announce(plan: Plan, session: Session) -> None:
    from failshut.verify.tunnel import Way

    seconds = 2 * (plan.window + _HANDLING_SECONDS) + plan.window
    devices = ", ".join(each.name for each in plan.ground.devices if each.carrying) or "no device that carries anything"
    lines = [f"watches everything that leaves by {devices}, for {plan.window:g} s a test"]
    lines += [f"does not touch {tunnel.name}: {tunnel.why_not}" for tunnel in plan.standing if tunnel.why_not]
    for tunnel in (each for each in plan.standing if not any(other.why_not for other in plan.standing)):
        how = "deletes its interface" if tunnel.kernel else "kills its process"
        lines.append(f"takes {tunnel.name} down and brings it back ({tunnel.by}), then {how} and brings it back")
        if tunnel.way is Way.NETWORK_MANAGER:
            lines.append(f"stops NetworkManager (SIGSTOP) while {tunnel.name} is dead: it would make it anew at once")
    lines += [f"finds {name} down and leaves it so: a take-down and a crash are not tested" for name in plan.down]
    lines.append("sends probes with the tunnel down, all to documentation addresses, resolvers and gateways")
    if plan.standing:
        lines.append(f"connections through the tunnel are interrupted for about {seconds:.0f} s")
        lines.append("if the lock has a hole, what your programs send leaves by it; the first leak ends the tests")
    if not plan.uploads and plan.standing:
        lines.append("not tested: a TCP connection that is established before; add --upload ADDRESS:PORT, or start one yourself")
    for line in ["failshut verify", *lines]:
        _say(line if line == "failshut verify" else f"- {line}", session)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise Failure("verifying asks first, and there is no terminal to ask on", help="add --yes", exit_code=Exit.USAGE)
    click.confirm("Go on?", abort=True, err=True)


def _say(line: str, session: Session) -> None:
    # A terminal that is gone, such as one over SSH through the tunnel, must not keep the tunnel from coming back.
    with contextlib.suppress(OSError):
        if not session.json:
            click.echo(f"  {line}", err=True)


def _progress(outcome: Outcome, session: Session) -> None:
    with contextlib.suppress(OSError):
        if not session.json:
            click.echo("\n".join(outcome_lines(outcome, session)), err=True)


def outcome_lines(outcome: Outcome, session: Session) -> list[str]:
    """Return a test in a line, its packets in the next, then each leak and each probe that could not be tried."""
    word = session.style(f"{outcome.verdict:5}", fg=_COLOUR[outcome.verdict], bold=outcome.verdict is not Verdict.OK)
    lines = [f"{word} {outcome.name:8} {outcome.title}" + (f" ({outcome.reason})" if outcome.reason else "")]
    explained = ", ".join(f"{count} {name}" for name, count in sorted(outcome.allowed.items())) or "nothing"
    if outcome.tried:
        sent, refused = sum(each.sent for each in outcome.tried), sum(each.refused for each in outcome.tried)
        tried = f"; {sent + refused} sends tried, {refused} refused on the spot"
    else:
        tried = ""
    if outcome.name != "final":
        lines.append(f"               left: {explained}{tried}")
    lines += [f"               leak: {each}" for each in outcome.leaks]
    impossible: dict[str, list[str]] = {}
    for each in outcome.tried:
        if each.impossible:
            impossible.setdefault(each.impossible, []).append(each.name)
    lines += [f"               not tried: {', '.join(names)}: {why}" for why, names in impossible.items()]
    return lines


def _leave(report: Report, session: Session) -> None:
    from failshut.host.runs import remember

    if session.json:
        session.print_json(report_json(report))
    else:
        for line in conclusion(report, session):
            click.echo(line)
    code = report.exit
    if not report.interrupted:
        remember("verify", ok=code is Exit.OK, leaks=sum(each.leaked for each in report.outcomes))
    raise click.exceptions.Exit(_INTERRUPTED if report.interrupted and code in (Exit.OK, Exit.DRIFT) else code)


def conclusion(report: Report, session: Session) -> list[str]:
    """Return the last lines: the verdict, and what to do about it."""
    lines = [f"NOT BROUGHT BACK: {each}" for each in report.unrestored]
    if report.interrupted:
        lines.append("Interrupted." + ("" if report.unrestored else " The tunnel is as it was."))
    match report.verdict:
        case Verdict.LEAK:
            leaked = sum(each.leaked for each in report.outcomes)
            word = session.style("LEAK.", fg="red", bold=True)
            lines.append(f"{word} {leaked} packet(s) left that no allowance explains. The first leak ends the tests.")
            lines.append("Look further: `failshut status -v` shows every rule and any drift; `failshut arm` puts the rules right.")
        case Verdict.VOID:
            word = session.style("Void.", fg="yellow", bold=True)
            lines.append(
                f"{word} This proves nothing: {next(each.reason for each in report.outcomes if each.verdict is Verdict.VOID)}"
            )
        case Verdict.OK if not report.interrupted:
            word = session.style("Held.", fg="green", bold=True)
            lines.append(f"{word} Every packet that left is explained by the policy.")
        case Verdict.OK:
            pass
        case _:
            assert_never(report.verdict)
    if report.drift:
        lines.append("The kernel's rules are not the armed ones (exit 11): `failshut status` shows the difference.")
    return lines


def report_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON with stable keys."""
    return {
        "verdict": str(report.verdict),
        "drift": report.drift,
        "interrupted": report.interrupted,
        "not_brought_back": list(report.unrestored),
        "tests": [_outcome_json(each) for each in report.outcomes],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "title": outcome.title,
        "verdict": str(outcome.verdict),
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 1),
        "allowed": dict(outcome.allowed),
        "leaked": outcome.leaked,
        "leaks": list(outcome.leaks),
        "tried": {each.name: {"sent": each.sent, "refused": each.refused} for each in outcome.tried if not each.impossible},
        "not_tried": {each.name: each.impossible for each in outcome.tried if each.impossible},
    }


def look_back(session: Session) -> None:
    """Answer `--after-boot`, and leave with its code."""
    from failshut.verify.boot import decide, worst_answer
    from failshut.verify.evidence import NoEvidenceError, gather

    try:
        evidence = gather()
    except NoEvidenceError as error:
        raise Failure(str(error), exit_code=Exit.UNKNOWN) from error
    checks = decide(evidence)
    answer = worst_answer(checks)
    if session.json:
        session.print_json({"answer": str(answer), "checks": [_check_json(each) for each in checks]})
    else:
        for each in checks:
            click.echo(f"{session.style(f'{each.answer:8}', fg=_ANSWER_COLOUR[each.answer])} {each.name:27} {each.why}")
        if answer is Answer.LEAK:
            click.echo("         if it was armed for the first time since this boot: reboot, and ask again")
    raise click.exceptions.Exit({Answer.OK: Exit.OK, Answer.LEAK: Exit.LEAK, Answer.UNKNOWN: Exit.UNKNOWN}[answer])


def _check_json(check: Check) -> dict[str, str]:
    return {"name": check.name, "answer": str(check.answer), "evidence": check.why}

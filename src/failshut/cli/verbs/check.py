"""`failshut check`: every mistake in the policy at once, each with its place, its cause and its remedy."""

from __future__ import annotations

import click

from failshut.cli.session import Session, begin, finding_json, report, session_options
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.model.policy import DEFAULT_FWMARK, Policy, Tunnel


@click.command()
@click.argument("policies", metavar="[POLICY]...", nargs=-1)
@click.option("--strict", is_flag=True, help="Let warnings fail the check too.")
@session_options
@click.pass_context
def command(ctx: click.Context, /, *, policies: tuple[str, ...], strict: bool, **options: object) -> None:
    """Show every mistake in the policy at once; or in each POLICY, where a fleet's are kept in one place.

    Reads the policy and the tunnels' configs, resolves host names and users, and changes nothing. Exits with 0 when the policy
    is sound (warnings are only shown; --strict makes them count), 2 when it is not, 4 when something may not be read.
    """
    from failshut.host.sources import load_policy

    session = begin(ctx, options)
    if policies:
        from failshut.cli.fleet import check_many

        check_many(policies, session, strict=strict)
        return
    checked = load_policy(session.policy)
    failed = checked.policy is None or (strict and bool(checked.findings))
    if session.json:
        session.print_json(
            {
                "ok": not failed,
                "policy": session.policy,
                "signed_by": (checked.policy.signed_by if checked.policy else "") or None,
                "findings": [finding_json(each) for each in checked.findings],
            }
        )
    else:
        report(checked.findings, session)
        counts = _counts(len(checked.errors), len(checked.warnings))
        if failed or checked.policy is None:
            click.echo(f"{session.policy}: {counts}", err=True)
        else:
            click.echo(
                f"{session.style('ok', fg='green', bold=True)}: {session.policy}: {summary(checked.policy)}"
                + (f" ({counts})" if counts else "")
            )
            if checked.policy.signed_by:
                click.echo(f"signed by {checked.policy.signed_by}{_uncovered(checked.policy)}")
            _say_unsaid(checked.policy, session)
    if failed:
        denied = any(each.is_denied for each in checked.findings)
        raise click.exceptions.Exit(Exit.UNKNOWN if denied else Exit.USAGE)


def _uncovered(policy: Policy) -> str:
    """Return what the signature says nothing about: the files that the policy reads on this machine."""
    files = ", ".join(dict.fromkeys(each.config for each in policy.tunnels if each.config))
    return f", which does not cover {files}" if files else ""


def _say_unsaid(policy: Policy, session: Session) -> None:
    if policy.backend is BackendName.IPTABLES:
        from failshut.lower.iptables.unsaid import left_out

        for each in left_out(tailscale=policy.tailscale is not None):
            click.echo(session.style(f"note: iptables has no word for {each}", fg="yellow"), err=True)


def summary(policy: Policy) -> str:
    """Return one line that says what the policy enforces."""
    allowed = [name for name, on in (("dhcp", policy.dhcp), ("ndp", policy.ndp), ("lan", policy.lan)) if on]
    allowed += [each.name for each in policy.inbound]
    allowed += ["tailscale"] if policy.tailscale else []
    allowed += [each.name for each in policy.outbound]
    return "; ".join((*(_tunnel(each) for each in policy.tunnels), f"allows {', '.join(allowed) or 'nothing else'}"))


def _tunnel(tunnel: Tunnel) -> str:
    endpoints = ", ".join(str(each) for each in tunnel.endpoints)
    return f"{tunnel.interface} to {endpoints} with fwmark {int(tunnel.fwmark or DEFAULT_FWMARK):#x}"


def _counts(errors: int, warnings: int) -> str:
    words = [f"{count} {word}{'s' if count != 1 else ''}" for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return ", ".join(words)

"""What every verb shares: the global options, colour, JSON output and how a failure leaves the program."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from failshut.host.run import show_commands
from failshut.model.exits import Exit

if TYPE_CHECKING:
    # `status` and `--help` have none to show, and start without.
    from failshut.model.finding import Finding

DEFAULT_POLICY = "/etc/failshut/failshut.toml"


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one run."""

    policy: str = DEFAULT_POLICY
    json: bool = False
    verbose: int = 0
    color: str = "auto"

    def updated(self, options: dict[str, Any]) -> Session:
        """Return this session with every option that was given; a global option may stand before or after the verb."""
        given = {name: value for name, value in options.items() if name in self.__slots__ and value}
        return replace(self, **given)

    @property
    def use_color(self) -> bool:
        """Whether to colour: asked for, or a terminal without NO_COLOR (no-color.org)."""
        if self.color != "auto":
            return self.color == "always"
        return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    @property
    def forces_color(self) -> bool | None:
        """True where colour was asked for, whatever the output is; None leaves it to the output."""
        return True if self.color == "always" else None

    def print_json(self, payload: Any) -> None:
        """Write one JSON document to standard output."""
        text = json.dumps(payload, indent=2, sort_keys=True, default=str)
        # A row of numbers stands in one line. No string has a bare line end, so that none is touched.
        click.echo(re.sub(r"\[\n\s+(-?\d+(?:,\n\s+-?\d+)*)\n\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text))

    def style(self, text: str, **style: Any) -> str:
        """Return `text` in a colour, or as it is where colour is off."""
        return click.style(text, **style) if self.use_color else text


def begin(context: click.Context, options: dict[str, Any]) -> Session:
    """Return the session with the options that stood behind the verb as well."""
    base: Session = context.obj
    session = base.updated(options)
    show_commands(session.verbose > 0)
    # Else click takes the colours off again wherever the output is no terminal.
    context.color = session.forces_color
    return session


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options to a command or to the group itself."""
    for option in (
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default=None, help="When to colour [auto]."),
        click.option("-v", "--verbose", count=True, help="Print each command that is run, ready to be replayed."),
        click.option("--json", is_flag=True, help="Answer in JSON on standard output."),
        click.option("--policy", metavar="FILE", default=None, help=f"The policy file [{DEFAULT_POLICY}]."),
    ):
        function = option(function)
    return function


class Failure(click.ClickException):
    """A failure that the user can act on: what happened, then what to do, then the exit code."""

    def __init__(self, message: str, *, help: str = "", exit_code: Exit = Exit.FAILED) -> None:  # noqa: A002
        super().__init__(message)
        self.help = help
        self.exit_code = int(exit_code)  # type: ignore[misc] # click declares it per class and reads it per instance

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Print the message and the remedy on standard error."""
        click.echo(f"failshut: {self.message}", err=True)
        if self.help:
            click.echo(f"  help: {self.help}", err=True)


def format_finding(finding: Finding, session: Session) -> str:
    """Return a finding as the compiler-style block that a person reads (docs/reference/findings.md)."""
    colour = "red" if finding.is_error else "yellow"
    head = f"{finding.place}: {session.style(f'{finding.severity}[{finding.code}]', fg=colour, bold=True)}: {finding.message}"
    lines = [head]
    if finding.source and finding.place.line:
        gutter = f"{finding.place.line:>5} | "
        lines.append(gutter + finding.source)
        pad = " " * (len(gutter) - 2) + "| " + " " * max(finding.place.column - 1, 0)
        lines.append(pad + session.style("^" * max(finding.place.length, 1), fg=colour))
    if finding.help:
        lines.append("      = help: " + finding.help)
    return "\n".join(lines)


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as a JSON object with stable keys."""
    return {
        "code": str(finding.code),
        "severity": str(finding.severity),
        "message": finding.message,
        "help": finding.help,
        "file": finding.place.file,
        "line": finding.place.line,
        "column": finding.place.column,
    }


def report(findings: Iterable[Finding], session: Session) -> None:
    """Print findings on standard error, errors first."""
    for finding in sorted(findings, key=lambda each: not each.is_error):
        click.echo(format_finding(finding, session), err=True)


def refuse(findings: Iterable[Finding], session: Session, verb: str) -> NoReturn:
    """Print findings and leave with `Exit.USAGE`, or as JSON where that was asked for."""
    all_findings = list(findings)
    if session.json:
        session.print_json({"ok": False, "findings": [finding_json(each) for each in all_findings]})
    else:
        report(all_findings, session)
        errors = sum(each.is_error for each in all_findings)
        click.echo(f"failshut {verb}: {errors} error{'s' if errors != 1 else ''}; nothing was changed.", err=True)
    raise click.exceptions.Exit(Exit.UNKNOWN if any(each.is_denied for each in all_findings) else Exit.USAGE)

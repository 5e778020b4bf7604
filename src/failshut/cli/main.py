"""The `failshut` command: finds the verb, imports only that verb, and turns every expected failure into one clear line."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from failshut import __version__
from failshut.cli.session import Failure, Session, session_options
from failshut.host.run import NoAnswerError
from failshut.model.exits import MEANING, Exit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Verb → what it does, in the order a newcomer meets them. Each verb's module is imported only when that verb runs.
VERBS: dict[str, str] = {
    "init": "Adopt a WireGuard config or a running tunnel: write the policy",
    "check": "Show every mistake in the policy at once",
    "sign": "Sign the policy, for machines that take no other",
    "plan": "Show what arming would change, as a diff",
    "drill": "Rehearse the attacks on your own policy, in private namespaces",
    "audit": "Prove that a ruleset leaks nothing, or show the packet that does",
    "arm": "Load the lock in one transaction",
    "confirm": "Keep what `arm --confirm-within` would undo",
    "verify": "Take the tunnel down for real, and see by the packets that nothing leaves",
    "status": "Armed? Tunnel up? Drift? How much was refused?",
    "top": "The same and what was refused, live on one screen",
    "watch": "What would have leaked, live: by program, user and destination",
    "metrics": "The same as numbers, for Prometheus",
    "refresh": "Find the tunnel's server again: fail over, or ask for its new address",
    "exec": "Run one program outside the tunnel",
    "portal": "Sign in at a captive portal, with one browser and nothing else",
    "allow": "Open something beside the tunnel for a time; the kernel ends it",
    "revoke": "End what `allow` opened, before its time",
    "log": "Write what is refused into the kernel's log, for a time",
    "render": "Print an artefact as text; no root needed",
    "templates": "Ready configs with fresh keys, and the lock policy for each",
    "server": "Make this machine a WireGuard server, and keep its peers",
    "disarm": "Take the lock off (asks first on a terminal)",
    "monitor": "What failshut-monitor.service runs: put back drift, hold new devices, watch the tunnels",
}


class VerbGroup(click.Group):
    """A click group that imports a verb's module only when that verb is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the verb's module and return its command; None for a word that is no verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"failshut.cli.verbs.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the verbs from the table, so that `--help` imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANING.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb from the table, so that a press of Tab imports none of them."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(verb, help=does) for verb, does in VERBS.items() if verb.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Add "did you mean" to an unknown verb."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else " `failshut --help` lists the commands."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="failshut")
@session_options
@click.pass_context
def root(ctx: click.Context, /, **options: object) -> None:
    """Keep every packet in the tunnel: a VPN kill switch that fails shut.

    Nothing leaves this machine but through the tunnel, except what keeps the tunnel alive and what you allowed by name.
    Begin with `failshut init wg0`, rehearse with `failshut drill`, then `failshut arm`.
    """
    ctx.obj = Session().updated(options)


def main() -> None:
    """Run the command line; every exit code is one of `Exit`."""
    # Started with its standard output closed, Python has none at all.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the program runs
    try:
        # Without its standalone mode click returns what a verb asked to exit with.
        code = root.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code)
    except click.UsageError as mistake:
        mistake.show()
        sys.exit(Exit.USAGE)
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted: nothing more was changed.", err=True)
        sys.exit(130)
    except NoAnswerError as error:
        Failure(str(error), help="the machine has no room for one more program: free some, then try again").show()
        sys.exit(Exit.FAILED)
    except OSError as error:
        _leave_without_output(error)


def _leave_without_output(error: OSError) -> NoReturn:
    """Leave when standard output can't be written: a full disk, or a reader that went away (`failshut render nft | head`)."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"failshut: the output can't be written: {error.strerror}", err=True)
    # Nothing more can be flushed there; without this Python would say so once more at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(Exit.FAILED)

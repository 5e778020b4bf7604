"""`failshut render`: every artefact as text. Needs no root and changes nothing but the files it is told to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from failshut.arming.plan import base_and_egress
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Failure, begin, session_options
from failshut.emit.nft import emit
from failshut.host.files import write_atomically
from failshut.host.probe import probe
from failshut.lower import lower
from failshut.model.exits import Exit
from failshut.model.policy import Policy
from failshut.model.units import InterfaceName

FORMATS = ("nft",)


@click.command("render")
@click.argument("artefact", type=click.Choice(FORMATS))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write files into this directory instead.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="An underlay device to guard, instead of this machine's.")
@session_options
@click.pass_context
def command(context: click.Context, /, artefact: str, output: Path | None, devices: tuple[str, ...], **options: Any) -> None:
    """Print ARTEFACT for the policy, as it would be loaded.

    `nft`: the lock, for `nft -f`. Both layers: the choke point, and the layer under IP on the underlay devices of this machine (or
    those named by --device, for another machine). With -o it writes lock.nft and egress.nft, the two transactions of a boot.
    """
    session = begin(context, options)
    policy = load_policy_or_leave(session, "render")
    facts = probe(policy)
    if devices:
        facts = replace(facts, underlay=_named(devices, policy))
    ruleset = lower(policy, facts)
    if session.json:
        session.print_json({"artefact": artefact, "text": emit(ruleset)})
    elif output is None:
        click.echo(emit(ruleset), nl=False)
    else:
        base, egress = base_and_egress(ruleset)
        _write(output, {"lock.nft": emit(base), "egress.nft": emit(egress)})


def _named(devices: tuple[str, ...], policy: Policy) -> tuple[InterfaceName, ...]:
    """Return the devices that --device named; guarding loopback or a tunnel would cut them off."""
    for device in devices:
        if device == "lo" or device in {tunnel.interface for tunnel in policy.tunnels}:
            raise Failure(f"{device} is no underlay device", help="name the device under the tunnel", exit_code=Exit.USAGE)
    try:
        return tuple(InterfaceName(each) for each in devices)
    except ValueError as error:
        raise Failure(str(error), exit_code=Exit.USAGE) from error


def _write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        try:
            write_atomically(directory / name, text)
        except OSError as error:
            raise Failure(f"{directory / name} can't be written: {error.strerror}") from error
        click.echo(f"wrote {directory / name}", err=True)

"""`failshut render`: every artefact as text. Needs no root and changes nothing but the files it is told to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from failshut.arming.plan import base_and_egress
from failshut.boot.artefacts import BootFile, initramfs_files, loader, systemd_files
from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.emit.nft import emit
from failshut.host.files import write_atomically
from failshut.host.probe import probe
from failshut.lower import lower
from failshut.model.exits import Exit
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.units import InterfaceName


@click.command("render")
@click.argument("artefact", type=click.Choice(["nft", "systemd"]))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write files into this directory instead.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="An underlay device to guard, instead of this machine's.")
@session_options
@click.pass_context
def command(context: click.Context, /, artefact: str, output: Path | None, devices: tuple[str, ...], **options: Any) -> None:
    """Print ARTEFACT for the policy, as it would be loaded or installed.

    `nft`: the lock, for `nft -f`. Both layers: the choke point, and the layer under IP on the underlay devices of this machine (or
    those named by --device, for another machine). With -o it writes lock.nft and egress.nft, the two transactions of a boot.

    `systemd`: the loader, the units, the generator, the drop-ins that make the network wait for the lock, the udev rule and the
    sysctls, each under its path; and what initramfs-tools needs, where the policy wants the lock there too. With -o it writes them
    below DIRECTORY as they would stand below /.
    """
    session = begin(context, options)
    policy = load_policy_or_leave(session, "render")
    artefacts: dict[str, Callable[[], None]] = {
        "nft": lambda: _render_nft(policy, _facts(policy, devices), output, session),
        "systemd": lambda: _render_boot((loader(), *systemd_files(), *_early(policy)), output, session),
    }
    artefacts[artefact]()


def _render_nft(policy: Policy, facts: HostFacts, output: Path | None, session: Session) -> None:
    ruleset = lower(policy, facts)
    base, egress = base_and_egress(ruleset)
    if output is not None:
        _write((BootFile("lock.nft", emit(base)), BootFile("egress.nft", emit(egress))), output)
    if session.json:
        session.print_json({"artefact": "nft", "text": emit(ruleset)})
    elif output is None:
        click.echo(emit(ruleset), nl=False)


def _render_boot(files: tuple[BootFile, ...], output: Path | None, session: Session) -> None:
    if output is not None:
        _write((replace(each, path=each.path.lstrip("/")) for each in files), output)
    if session.json:
        listed = [{"path": each.path, "mode": f"{each.mode:o}", "text": each.text} for each in files]
        session.print_json({"artefact": "systemd", "files": listed})
    elif output is None:
        click.echo("\n".join(f"# {each.path}\n{each.text}" for each in files), nl=False)


def _early(policy: Policy) -> tuple[BootFile, ...]:
    return initramfs_files() if policy.initramfs else ()


def _facts(policy: Policy, devices: tuple[str, ...]) -> HostFacts:
    facts = probe(policy)
    return replace(facts, underlay=_named(devices, policy)) if devices else facts


def _named(devices: tuple[str, ...], policy: Policy) -> tuple[InterfaceName, ...]:
    """Return the devices that --device named; guarding loopback or a tunnel would cut them off."""
    for device in devices:
        if device == "lo" or device in policy.interfaces:
            raise Failure(f"{device} is no underlay device", help="name the device under the tunnel", exit_code=Exit.USAGE)
    try:
        return tuple(InterfaceName(each) for each in devices)
    except ValueError as error:
        raise Failure(str(error), exit_code=Exit.USAGE) from error


def _write(files: Iterable[BootFile], directory: Path) -> None:
    for each in files:
        path = directory / each.path
        try:
            write_atomically(path, each.text, mode=each.mode)
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror}") from error
        click.echo(f"wrote {path}", err=True)

"""`failshut render`: every artefact as text. Needs no root and changes nothing but the files it is told to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failshut.cli.prepare import load_policy_or_leave
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.cli.verbs.render_image import render_image
from failshut.cli.verbs.render_inline import render_inline
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.model.inline import Tool
from failshut.model.units import InterfaceName

if TYPE_CHECKING:
    from failshut.boot.artefacts import BootFile
    from failshut.model.host import HostFacts
    from failshut.model.policy import Policy
    from failshut.model.ruleset import Family, Ruleset

# By iptables' family: the files as netfilter-persistent calls them, and what loads them.
_FILES = {"ip": "rules.v4", "ip6": "rules.v6"}
_PROGRAMS = {"ip": "iptables-restore", "ip6": "ip6tables-restore"}


@click.command("render")
@click.argument("artefact", type=click.Choice(["nft", "iptables", "systemd", "image", "wg-quick"]))
@click.argument("tunnel", required=False)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write files into this directory instead.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="An underlay device to guard, instead of this machine's.")
@click.option("--with", "tool", type=click.Choice([str(each) for each in Tool]), help="wg-quick: what loads the lines [nft].")
@click.option("--install", is_flag=True, help="wg-quick: write the lines into the tunnel's config.")
@click.option("--remove", is_flag=True, help="wg-quick: take them out again.")
@session_options
@click.pass_context
def command(context: click.Context, /, *, artefact: str, tunnel: str | None, **options: Any) -> None:
    """Print ARTEFACT for the policy, as it would be loaded or installed.

    `nft`: the lock, for `nft -f`. Both layers: the choke point, and the layer under IP on the underlay devices of this machine (or
    those named by --device, for another machine). With -o it writes lock.nft and egress.nft, the two transactions of a boot.

    `iptables`: the lock for iptables-restore, both families one after the other. With -o it writes rules.v4 and rules.v6, which
    netfilter-persistent loads from /etc/iptables; files of that name in DIRECTORY keep every rule that is not ours.

    `systemd`: the loader, the units, the generator, the drop-ins that make the network wait for the lock, the udev rule and the
    sysctls, each under its path; and what initramfs-tools needs, where the policy wants the lock there too. With -o it writes them
    below DIRECTORY as they would stand below /.

    `image`: everything that a machine needs to boot locked, proved as by `arm` and written below DIRECTORY: the sealed lock, the
    loader, the enabled units, the tunnels' marks. Run it in the image's own root (`chroot IMAGE failshut render image -o /`), with
    --device for each device that the machine will have; nothing of it needs Python at boot.

    `wg-quick TUNNEL`: the lock as PostUp and PreDown lines for the tunnel's own config, by nft or iptables (--with). --install
    writes them into it and --remove takes them out; every other line stays as it is. Such a lock comes with the tunnel and goes
    with it: nothing holds before it is up, and nothing after `wg-quick down`. Not for a machine that is armed.
    """
    session = begin(context, options)
    policy = load_policy_or_leave(session, "render")
    output, devices = options["output"], options["devices"]
    inline = any(options[each] for each in ("tool", "install", "remove")) or tunnel
    if inline and artefact != "wg-quick":
        raise click.UsageError("TUNNEL, --with, --install and --remove are for `render wg-quick`.")
    artefacts: dict[str, Callable[[], None]] = {
        "nft": lambda: _render_nft(policy, _facts(policy, devices), output, session),
        "iptables": lambda: _render_iptables(policy, _facts(policy, devices), output, session),
        "systemd": lambda: _render_boot((*_boot_files(policy), *_early(policy)), output, session),
        "image": lambda: render_image(policy, _named(devices, policy), output, session),
        "wg-quick": lambda: render_inline(policy, _facts(policy, devices), tunnel, options, session),
    }
    artefacts[artefact]()


def _boot_files(policy: Policy) -> tuple[BootFile, ...]:
    from failshut.boot.artefacts import iptables_files, loader, systemd_files

    if policy.backend is BackendName.IPTABLES:
        return (loader(policy.backend), *iptables_files(persistent=True))
    return (loader(), *systemd_files())


def _render_iptables(policy: Policy, facts: HostFacts, output: Path | None, session: Session) -> None:
    from failshut.boot.artefacts import BootFile
    from failshut.emit.iptables import CantSayError, complete_text
    from failshut.lower.iptables import left_out, lower_iptables
    from failshut.model.ruleset import Family

    try:
        ruleset = lower_iptables(policy, facts)
        texts = {family: complete_text(ruleset, Family(family)) for family in _FILES}
    except CantSayError as error:
        raise Failure(
            f"iptables can't say this lock: {error}", help="`failshut check` names the settings", exit_code=Exit.USAGE
        ) from error
    unsaid = left_out(tailscale=policy.tailscale is not None)
    if output is not None:
        _write((BootFile(name, _merged(output / name, ruleset, Family(family)), 0o640) for family, name in _FILES.items()), output)
    if session.json:
        files = [{"path": name, "text": texts[family]} for family, name in _FILES.items()]
        session.print_json(
            {
                "artefact": "iptables",
                "files": files,
                "left_out": [str(each) for each in unsaid],
            }
        )
    elif output is None:
        said = "".join(f"# not in it: {each}\n" for each in unsaid)
        click.echo(
            said + "".join(f"# {name}, for {_PROGRAMS[family]}\n{texts[family]}" for family, name in _FILES.items()), nl=False
        )


def _merged(path: Path, ruleset: Ruleset, family: Family) -> str:
    """Return the file as it is now, with our chains in it."""
    from failshut.emit.iptables import merged_text
    from failshut.read.iptables import read_save

    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        before = ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} can't be read: {error}") from error
    wrong = [each for each in read_save(before, str(path), family).findings if each.is_error] if before else []
    if wrong:
        raise Failure(
            f"{wrong[0].place}: {wrong[0].message}", help=wrong[0].help or "mend it; nothing was written", exit_code=Exit.USAGE
        )
    return merged_text(before, ruleset, family)


def _render_nft(policy: Policy, facts: HostFacts, output: Path | None, session: Session) -> None:
    from failshut.arming.backends.nftables import base_and_egress
    from failshut.boot.artefacts import BootFile
    from failshut.emit.nft import emit
    from failshut.lower import lower

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
    from failshut.boot.artefacts import initramfs_files

    return initramfs_files() if policy.initramfs else ()


def _facts(policy: Policy, devices: tuple[str, ...]) -> HostFacts:
    from failshut.host.network.probe import probe

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
    from failshut.host.files import write_atomically

    for each in files:
        path = directory / each.path
        try:
            write_atomically(path, each.text, mode=each.mode)
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror}") from error
        click.echo(f"wrote {path}", err=True)

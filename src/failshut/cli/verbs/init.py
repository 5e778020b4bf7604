"""`failshut init`: adopts a tunnel's config or a running tunnel and writes the policy for it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from failshut.cli.session import DEFAULT_POLICY, Failure, Session, begin, finding_json, refuse, report, session_options
from failshut.model.exits import Exit
from failshut.model.finding import Finding

if TYPE_CHECKING:
    from failshut.config.draft import Draft, LanOffer, SshOffer, TailscaleOffer
    from failshut.host.tunnels.adopt import Adopted, CantAdoptError

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the user said beforehand about the offers: None is to be asked where someone can answer."""

    lan: bool | None
    ssh: bool | None
    tailscale: bool | None
    yes: bool = False

    @property
    def can_ask(self) -> bool:
        """Whether someone sits at a terminal."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def accepts(self, said: bool | None, question: str) -> bool:
        """Return what was said, or ask on a terminal; without one the answer is no."""
        if said is not None:
            return said
        if self.yes:
            return True
        return self.can_ask and click.confirm(question, default=True, err=True)


@click.command()
@click.argument("tunnel", metavar="[NAME|PATH]", required=False)
@click.option("--lan/--no-lan", default=None, help="Allow the local network, or write it commented out.")
@click.option("--ssh/--no-ssh", default=None, help="Allow the SSH session you are in, or write it commented out.")
@click.option("--tailscale/--no-tailscale", default=None, help="Allow Tailscale beside the tunnel, or write it commented out.")
@click.option("-y", "--yes", is_flag=True, help="Accept every offer without asking.")
@click.option("--force", is_flag=True, help="Replace an existing policy; the old one is kept as FILE.bak.")
@click.option("-o", "--output", metavar="FILE|-", default=None, help="Write there instead; - is standard output.")
@session_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    tunnel: str | None,
    lan: bool | None,
    ssh: bool | None,
    tailscale: bool | None,
    yes: bool,
    force: bool,
    output: str | None,
    **options: object,
) -> None:
    """Adopt a tunnel's config or a running tunnel: write the policy.

    PATH is a config of wg-quick, of systemd-networkd (.netdev), of NetworkManager (.nmconnection) or of OpenVPN, told by what
    stands in it. NAME is an interface: the config that it runs by, else /etc/wireguard/NAME.conf, else one of the others that
    makes NAME, else the running WireGuard itself. With no argument the only candidate is taken. An endpoint that is a host name is
    pinned to its addresses. The local network, the SSH session you are in and Tailscale, where it runs, are offered; where nobody
    can be asked, they are written commented out.
    """
    from failshut.config.draft import write
    from failshut.host.tunnels.adopt import CantAdoptError, adopt

    session = begin(ctx, options)
    target = output or session.policy
    if target != STDOUT and not force and _exists(target):
        remedy = "--force replaces it and keeps it as FILE.bak; --output - only shows the new one"
        raise Failure(f"{target} exists already", help=remedy)
    try:
        adopted = adopt(tunnel)
    except CantAdoptError as error:
        _leave(error, session)
    draft, notes = _draft(adopted, Answers(lan, ssh, tailscale, yes))
    text = write(draft)
    warnings = _checked(text, target if target != STDOUT else "policy", session)
    if target == STDOUT and not session.json:
        click.echo(text, nl=False)
    elif target != STDOUT:
        _save(Path(target), text)
    _tell(draft, target, text, session, (*notes, *_pending(draft)), warnings)


def _leave(error: CantAdoptError, session: Session) -> NoReturn:
    if error.findings:
        refuse(error.findings, session, "init")
    raise Failure(str(error), help=error.help, exit_code=Exit.UNKNOWN if error.denied else Exit.FAILED) from error


def _exists(target: str) -> bool:
    try:
        return Path(target).exists()
    except (OSError, ValueError):
        return False


def _draft(adopted: Adopted, answers: Answers) -> tuple[Draft, tuple[str, ...]]:
    """Return the policy to be written, and what the user should know about what is not in it."""
    from failshut.config.draft import Draft
    from failshut.host.network.surroundings import local_network, ssh_session, tailscale_here

    own = tuple(each.ip for each in adopted.own)
    lan = local_network([adopted.name], [*own, *(each.address for each in adopted.endpoints)])
    beside = tailscale_here(own)
    ssh = None if beside and beside.is_in_use else ssh_session(own)
    draft = Draft(
        tunnel=adopted.name,
        date=datetime.now(tz=UTC).astimezone().date().isoformat(),
        config=adopted.config,
        endpoints=adopted.pins,
        fwmark=adopted.fwmark,
        addresses=adopted.addresses,
        lan=lan.offer,
        ssh=ssh,
        tailscale=beside,
        schema=_schema(),
    )
    notes = list(lan.left_out)
    if answers.lan and lan.offer is None:
        notes.append("--lan: no private network was found at the default route; name it in [allow.lan] by hand")
    if answers.tailscale and beside is None:
        notes.append("--tailscale: it does not run here; allow it with [allow.tailscale] by hand")
    if answers.ssh and ssh is None:
        notes.append("--ssh: this is no SSH session from outside the tunnel; a service is allowed with [[allow.inbound]]")
    accepted = replace(
        draft,
        lan_accepted=lan.offer is not None and answers.accepts(answers.lan, _lan_question(lan.offer)),
        ssh_accepted=ssh is not None and answers.accepts(answers.ssh, _ssh_question(ssh)),
        tailscale_accepted=beside is not None and answers.accepts(answers.tailscale, _tailscale_question(beside)),
    )
    return accepted, tuple(notes)


def _schema() -> str:
    """Return where the policy's schema lies on this machine, for editors (taplo)."""
    path = Path(str(files("failshut.config").joinpath("policy.schema.json"))).resolve()
    return path.as_uri() if path.exists() else ""


def _lan_question(offer: LanOffer) -> str:
    return f"Allow the local network {', '.join(map(str, offer.prefixes))} at {offer.interface}?"


def _ssh_question(offer: SshOffer) -> str:
    return f"Allow SSH (port {int(offer.port)}) from {offer.source}? You are connected that way; without it, arming cuts you off."


def _tailscale_question(offer: TailscaleOffer) -> str:
    why = " You are connected that way; without it, arming cuts you off." if offer.is_in_use else ""
    return f"Allow Tailscale beside the tunnel?{why}"


def _checked(text: str, target: str, session: Session) -> tuple[Finding, ...]:
    """Check the new policy before it is written: `init` never leaves a file that `check` refuses."""
    from failshut.host.sources import check_text

    checked = check_text(text, target)
    if checked.policy is None:
        refuse(checked.findings, session, "init")
    return checked.findings


def _save(target: Path, text: str) -> None:
    """Write the policy, whole or not at all; one that was there is kept as FILE.bak."""
    from failshut.host.files import write_atomically

    try:
        path = target.resolve()
        if path.exists():
            write_atomically(path.with_name(path.name + ".bak"), path.read_text(encoding="utf-8", errors="surrogateescape"))
        write_atomically(path, text, mode=0o644)
    except PermissionError as error:
        raise Failure(
            f"{target} can't be written: permission denied", help="sudo failshut init …, or --output FILE", exit_code=Exit.UNKNOWN
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path is not one"
        raise Failure(f"{target} can't be written: {reason.lower()}", help="--output FILE names another place") from error


def _pending(draft: Draft) -> list[str]:
    """Say which offers were written commented out, and how to accept them."""
    pending = []
    if draft.lan and not draft.lan_accepted:
        pending.append(f"not allowed: the local network {', '.join(map(str, draft.lan.prefixes))} (--lan allows it)")
    if draft.ssh and not draft.ssh_accepted:
        pending.append(
            f"not allowed: SSH from {draft.ssh.source}, the session you are in: arming would cut it off (--ssh allows it)"
        )
    if draft.tailscale and not draft.tailscale_accepted:
        why = ", the session you are in comes by it: arming would cut it off" if draft.tailscale.is_in_use else ""
        pending.append(f"not allowed: Tailscale{why} (--tailscale allows it)")
    return pending


def _tell(draft: Draft, target: str, text: str, session: Session, notes: Sequence[str], warnings: Sequence[Finding]) -> None:  # noqa: PLR0917
    if session.json:
        found = [finding_json(each) for each in warnings]
        shown = {"text": text} if target == STDOUT else {"policy": target}
        session.print_json({"ok": True, "tunnel": draft.tunnel, "findings": found, "notes": list(notes), **shown})
        return
    report(warnings, session)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if target == STDOUT:
        return
    click.echo(f"{session.style('ok', fg='green', bold=True)}: {target} is the policy for {draft.tunnel}. Next:")
    policy = "" if target == DEFAULT_POLICY else f" --policy {shlex.quote(target)}"
    for verb, why in (
        ("check", "every mistake at once, after you edited it"),
        ("plan", "what arming would change"),
        ("drill", "rehearse the attacks; nothing outside is touched"),
        ("arm", "load the lock"),
    ):
        click.echo(f"  {f'failshut {verb}{policy}':<{len(policy) + 16}} {why}")

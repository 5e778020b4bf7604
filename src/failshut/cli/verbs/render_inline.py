"""`failshut render wg-quick`: the lock as lines of the tunnel's own config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failshut.cli.session import Failure, Session
from failshut.model.exits import Exit

if TYPE_CHECKING:
    from failshut.model.host import HostFacts
    from failshut.model.policy import Policy, Tunnel

_LIMITS = (
    "nothing holds before the tunnel is up, nor after `wg-quick down`, nor when the machine crashes and boots",
    "frames below IP are not held, and what another program flushes stays flushed",
    "PostUp runs when the interface is up already: what is sent in between leaves",
)


def render_inline(policy: Policy, facts: HostFacts, name: str | None, options: Mapping[str, Any], session: Session) -> None:
    """Print the lines, or write them into the config, or take them out."""
    from failshut.emit.inline import inline_lines
    from failshut.emit.nft_expressions import UnsupportedError
    from failshut.emit.wgquick import INLINE_BEGIN, INLINE_END
    from failshut.lower.inline import lower_inline
    from failshut.lower.iptables.shut import everything
    from failshut.model.inline import Tool

    tunnel = _tunnel(policy, name)
    if options["install"] and options["remove"]:
        raise click.UsageError("Either --install or --remove.")
    if options["remove"]:
        _rewrite(tunnel, (), session)
        return
    tool = Tool(options["tool"] or Tool.NFT)
    try:
        lines = inline_lines(lower_inline(policy, facts, tool, tunnel.interface), tool, everything())
    except UnsupportedError as error:
        raise Failure(f"{tool} can't say this lock inline: {error}", help="arm it instead", exit_code=Exit.USAGE) from error
    if options["install"]:
        _rewrite(tunnel, lines, session)
    elif session.json:
        session.print_json({"artefact": "wg-quick", "tunnel": tunnel.interface, "lines": lines, "limits": _LIMITS})
    else:
        click.echo("\n".join((INLINE_BEGIN, *lines, INLINE_END)))
        _say_limits()


def _tunnel(policy: Policy, name: str | None) -> Tunnel:
    if name is None and len(policy.tunnels) == 1:
        return policy.tunnels[0]
    known = ", ".join(str(each.interface) for each in policy.tunnels)
    found = next((each for each in policy.tunnels if each.interface == name), None)
    if found is None:
        raise Failure(
            f"the policy has no tunnel {name}" if name else "which tunnel's config?", help=f"one of {known}", exit_code=Exit.USAGE
        )
    return found


def _rewrite(tunnel: Tunnel, lines: tuple[str, ...], session: Session) -> None:
    """Write the config with the lines, or without any; every other byte stays."""
    from failshut.emit.wgquick import with_inline, without_inline
    from failshut.host.files import write_atomically

    if tunnel.config is None:
        raise Failure(f"{tunnel.interface} has no config file", help="name it in the policy: `config`", exit_code=Exit.USAGE)
    path = Path(tunnel.config)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            before = file.read()
        after = with_inline(before, lines) if lines else without_inline(before)
        if after != before:
            write_atomically(path, after)
    except (OSError, ValueError) as error:
        raise Failure(f"{path} can't be changed: {error}", help="run it with sudo") from error
    done = "unchanged" if after == before else "has the lock's lines" if lines else "has none of the lock's lines any more"
    if session.json:
        session.print_json({"path": str(path), "changed": after != before, "installed": bool(lines), "limits": _LIMITS})
        return
    click.echo(f"{path} {done}; restart the tunnel to use it" if after != before else f"{path} is {done}")
    if lines:
        _say_limits()


def _say_limits() -> None:
    for each in _LIMITS:
        click.echo(f"note: {each}", err=True)

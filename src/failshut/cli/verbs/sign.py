"""`failshut sign`: a signature beside the policy, by which a machine knows that it is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from failshut.cli.session import Failure, begin, refuse, session_options
from failshut.model.exits import Exit


@click.command("sign")
@click.argument("key", type=click.Path(exists=True, dir_okay=False))
@session_options
@click.pass_context
def command(context: click.Context, /, *, key: str, **options: Any) -> None:
    """Sign the policy with an SSH key, and write the signature beside it, with .sig at the end of its name.

    KEY is a private key, or a public one whose private half an ssh-agent or a security key holds. A machine with
    /etc/failshut/allowed_signers takes only policies that one of those has signed. What the file says is signed, and no other file
    that it names. A policy that is not well-formed is not signed.
    """
    from failshut.config.declaration import Unreadable
    from failshut.config.policy_file import parse
    from failshut.host.files import write_atomically
    from failshut.host.signature import SUFFIX, sign
    from failshut.host.sources import read_limited

    session = begin(context, options)
    text = read_limited(session.policy)
    if isinstance(text, Unreadable):
        raise Failure(f"{session.policy} can't be read: {text.why}", help=text.help, exit_code=Exit.USAGE)
    declaration = parse(text, session.policy)
    findings = declaration if isinstance(declaration, list) else declaration.findings
    if any(each.is_error for each in findings):
        refuse(findings, session, "sign")
    made = sign(text, key)
    if not made.ok:
        raise Failure(f"the policy is not signed: {made.complaint}", help="KEY is an SSH key: `ssh-keygen -t ed25519` makes one")
    target = Path(f"{session.policy}{SUFFIX}")
    try:
        write_atomically(target, made.out)
    except OSError as error:
        raise Failure(f"{target} can't be written: {error.strerror}") from error
    if session.json:
        session.print_json({"signature": str(target)})
    else:
        click.echo(f"Signed: {target}. The two belong together on each machine.")

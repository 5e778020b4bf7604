"""`failshut render image`: everything that a machine needs to boot locked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from failshut.arming.errors import ArmingError
from failshut.cli.failures import leave
from failshut.cli.session import Session
from failshut.model.units import InterfaceName

if TYPE_CHECKING:
    from failshut.model.policy import Policy


def render_image(policy: Policy, devices: tuple[InterfaceName, ...], output: Path | None, session: Session) -> None:
    """Write the image's files below `output`."""
    from failshut.arming.image import write_image

    if output is None:
        raise click.UsageError("`render image` wants -o DIRECTORY, the image's root.")
    try:
        record, paths = write_image(
            policy, devices, output, lambda line: None if session.json else click.echo(f"  {line}", err=True)
        )
    except ArmingError as error:
        leave(error)
    if session.json:
        session.print_json({"artefact": "image", "files": list(paths), "under_ip": record.guarded, "notes": list(record.notes)})
        return
    for note in record.notes:
        click.echo(session.style(f"note: {note}", fg="yellow"), err=True)
    click.echo(f"{output} boots locked: {len(paths)} files; nothing leaves but through {', '.join(record.tunnels)}.")

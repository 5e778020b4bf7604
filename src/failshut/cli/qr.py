"""A config as a QR code on the terminal, for the WireGuard app of a telephone."""

from __future__ import annotations

import io
import sys

import click


def show_qr(title: str, text: str) -> None:
    """Draw a config, which holds a private key, for whoever asked for it; to standard error, where --json does not write."""
    import segno

    drawn = io.StringIO()
    # Without its comments, so that it fits 80 columns.
    bare = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    segno.make(bare, error="l", micro=False).terminal(drawn, border=1, compact=True)
    click.echo(f"{title}: scan it with the WireGuard app; whoever sees it has the key.", err=True)
    # As it is: click would take the colours out where standard error is no terminal, and with them half of the code.
    sys.stderr.write(drawn.getvalue())
    sys.stderr.flush()

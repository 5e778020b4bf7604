"""Checks of Tailscale beside the tunnel."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.config.addresses import is_wider
from failshut.config.checks.view import WIDEST, View
from failshut.config.tunnels import effective_mark
from failshut.model.finding import Code, Finding
from failshut.model.marks import TAILSCALE, TAILSCALE_MASK

# DNS, and DNS over TLS.
_NAME_PORTS = (53, 853)


def tailscale_is_apart(view: View) -> Iterator[Finding]:
    """Refuse name look-ups as Tailscale's, servers that are half the Internet, and a tunnel's mark that tailscaled would take."""
    table = view.declaration.document.allow.tailscale
    if table is None:
        return
    for index, port in enumerate(table.tcp):
        if port in _NAME_PORTS:
            message = f"port {int(port)} is for name look-ups: tailscaled would carry those of every program out of the tunnel"
            remedy = "remove it: names are looked up through the tunnel"
            yield view.declaration.finding(("allow", "tailscale", "tcp", index), Code.CONTRADICTION, message, remedy)
    for place, prefix in enumerate(table.servers):
        if is_wider(prefix, *WIDEST):
            at = ("allow", "tailscale", "servers", place)
            message = f"{prefix} names no servers: it is a good part of the Internet"
            yield view.declaration.finding(at, Code.TOO_WIDE, message, "name the servers' addresses, or remove `servers`")
    for built in view.tunnels:
        if effective_mark(built) & TAILSCALE_MASK == TAILSCALE:
            message = f"{built.name}'s fwmark {effective_mark(built)} is one that tailscaled takes for its own ({TAILSCALE})"
            yield view.declaration.finding(("allow", "tailscale"), Code.CONTRADICTION, message, f"give {built.name} another mark")

"""What comes out of the tunnel at its server: from whom, and to which address. The server's own kernel keeps the list."""

from __future__ import annotations

import json
from typing import Protocol

_RULES = """
table inet seen
delete table inet seen
table inet seen {{
	set v4 {{ type ipv4_addr . ipv4_addr; size 4096; flags dynamic; }}
	set v6 {{ type ipv6_addr . ipv6_addr; size 4096; flags dynamic; }}
	chain arrive {{
		type filter hook prerouting priority -300;
		iifname "{device}" add @v4 {{ ip saddr . ip daddr }}
		iifname "{device}" add @v6 {{ ip6 saddr . ip6 daddr }}
	}}
}}
"""


class Do(Protocol):
    """Runs a program at the server, which must succeed, and returns its output."""

    def __call__(self, *argv: str, stdin: str | None = None) -> str:
        """Run it."""


def watch_tunnel(do: Do, device: str) -> None:
    """Begin, or begin anew with nothing seen."""
    do("nft", "-f", "-", stdin=_RULES.format(device=device))


def out_of_the_tunnel(do: Do) -> list[tuple[str, str]]:
    """Return the pairs of source and target seen so far."""
    listed = json.loads(do("nft", "-j", "list", "table", "inet", "seen"))["nftables"]
    return [tuple(each["concat"]) for one in listed for each in one.get("set", {}).get("elem", [])]

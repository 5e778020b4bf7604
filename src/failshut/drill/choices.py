"""What a drill is asked for, and what it does unasked. Pure, and imported by `--help`."""

from __future__ import annotations

from enum import StrEnum

# Runs wait more than they work: on two cores, six at a time are done first (measured: 4: 80 s, 6: 63 s).
DEFAULT_WORKERS = 6
# How long traffic goes on after an attack: about 60 packets of each flow.
WINDOW_SECONDS = 1.2


class Backend(StrEnum):
    """Which tool's rules a lock is rehearsed with. `inline` stands in the tunnel's own config, and comes and goes with it."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    INLINE_NFT = "inline-nft"
    INLINE_IPTABLES = "inline-iptables"

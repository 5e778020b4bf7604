"""Which tool enforces the lock. In a file of its own: `status` asks for it, and knows no policy."""

from __future__ import annotations

from enum import StrEnum


class BackendName(StrEnum):
    """Which tool's rules enforce the policy."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"

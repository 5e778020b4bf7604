"""The lock inside a tunnel's own config: which tool loads it, and what stands for the names that wg-quick knows."""

from __future__ import annotations

from enum import StrEnum

from failshut.model.units import InterfaceName, Mark


class Tool(StrEnum):
    """The program that wg-quick calls."""

    NFT = "nft"
    IPTABLES = "iptables"


# Of the inline lock's table; beside one that is armed it only refuses more.
TABLE = "failshut-inline"
# These stand in the rules until they are written as wg-quick's `%i` and as a question to wg.
TUNNEL = InterfaceName("INLINE-TUNNEL")
MARK = Mark(0xFA11540)

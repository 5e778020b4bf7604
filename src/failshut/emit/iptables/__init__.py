"""Ruleset → the text that `iptables-restore` and `ip6tables-restore` load: one table of one family after the other.

A table is one transaction of the kernel's. Nothing here empties a chain of the kernel's or makes one anew: while iptables-nft does
that, the chain has its policy alone (644 packets in 1,000 reloads). Our own chains are emptied and filled in the transaction that
has them, every way through them ends in a refusal, and the kernel's chains jump to them before anything else.
"""

from __future__ import annotations

from failshut.emit.iptables.text import CantSayError, body_text, complete_text, live_text, merged_text, shown_text
from failshut.emit.nft_expressions import UnsupportedError

__all__ = ["CantSayError", "UnsupportedError", "body_text", "complete_text", "live_text", "merged_text", "shown_text"]

"""Where the kernel calls iptables' tables: their chains, hooks and priorities (linux/netfilter_ipv4.h, net/ipv4/netfilter/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from failshut.model.ruleset import Base, ChainType, Hook, Verdict

# Every chain of ours begins so; the kernel's names end after 28 bytes (XT_EXTENSION_MAXNAMELEN).
PREFIX = "FAILSHUT-"
LONGEST_NAME = 28

_HOOKS = {
    "PREROUTING": Hook.PREROUTING,
    "INPUT": Hook.INPUT,
    "FORWARD": Hook.FORWARD,
    "OUTPUT": Hook.OUTPUT,
    "POSTROUTING": Hook.POSTROUTING,
}
_ALL = tuple(_HOOKS)
_FILTER = ("INPUT", "FORWARD", "OUTPUT")
_CHAINS: dict[str, tuple[str, ...]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": _ALL,
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": _FILTER,
    "security": _FILTER,
}
_PRIORITY = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
# Destinations are translated before the filter decides, sources after it.
_NAT_PRIORITY = {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100}

TABLES = tuple(_CHAINS)


class Kind(StrEnum):
    """Whose rules the programs write: those that the machine calls iptables, nf_tables', or the older engine's."""

    DEFAULT = ""
    NFT = "-nft"
    LEGACY = "-legacy"


def built_in(table: str) -> tuple[str, ...]:
    """Return the names of a table's own chains; none for a table that iptables does not have."""
    return _CHAINS.get(table, ())


def base(table: str, chain: str, policy: Verdict) -> Base:
    """Return how a table's own chain hangs in the kernel. mangle's OUTPUT re-routes what it changed."""
    if table == "nat":
        return Base(ChainType.NAT, _HOOKS[chain], _NAT_PRIORITY[chain], policy)
    kind = ChainType.ROUTE if (table, chain) == ("mangle", "OUTPUT") else ChainType.FILTER
    return Base(kind, _HOOKS[chain], _PRIORITY[table], policy)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the kernel has of ours, in one family: chains, and jumps to them as (kernel's chain, ours), each by table."""

    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    to_own: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that have something of ours."""
        return tuple(dict.fromkeys((*self.own, *self.to_own)))

    def chains(self, table: str) -> tuple[str, ...]:
        """Return our chains in a table."""
        return self.own.get(table, ())

    def jumps(self, table: str) -> tuple[tuple[str, str], ...]:
        """Return the jumps from the kernel's chains to ours in a table."""
        return self.to_own.get(table, ())

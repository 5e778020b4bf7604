"""The kernel's rules beside the wanted ones: a diff that a person reads. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from failshut.emit.iptables import shown_text
from failshut.emit.nft import UnsupportedError, table_text
from failshut.lower.egress import chain_name
from failshut.model.ruleset import Engine, Family, Ruleset, Table
from failshut.model.units import InterfaceName

# Behind an empty line: a chain without a hook stands before them.
_DEVICE_CHAIN = r'\n\tchain [^\n]* {{\n\t\t[^\n]* device "{name}" [^\n]*\n(?:\t\t[^\n]*\n)*\t}}\n'


def canonical_text(ruleset: Ruleset) -> str:
    """Return the ruleset's one text: equal exactly for rulesets that the kernel treats alike.

    What was read and not understood stands in it as a line that no compiled ruleset can hold, so that it is always a difference.
    """
    return "\n".join(_table_text(table) for table in ruleset.canonical().tables)


def difference(actual: str, wanted: str) -> tuple[str, ...]:
    """Return a unified diff from the kernel's canonical text to the wanted one; empty when they are equal."""
    if actual == wanted:
        return ()
    return tuple(difflib.unified_diff(actual.splitlines(), wanted.splitlines(), "kernel", "policy", lineterm="", n=2))


def guarded_devices(ruleset: Ruleset) -> tuple[str, ...]:
    """Return the devices that a chain of the layer under IP hangs on."""
    egress = [table for table in ruleset.tables if table.family is Family.NETDEV]
    chains = (chain.base.device for table in egress for chain in table.chains if chain.base and chain.base.device)
    # A device that took another's name while that hangs on the chain joins it there: the kernel lists both.
    return tuple(device for devices in chains for device in devices.split(","))


def without_devices(canonical: str, devices: Collection[str]) -> str:
    """Return a canonical text as the kernel has it without these devices: before Linux 6.16 a chain goes with its device."""
    for device in devices:
        canonical = re.sub(_DEVICE_CHAIN.format(name=re.escape(device)), "", canonical)
    return canonical


def without_later(canonical: str, wanted: str, devices: Collection[str]) -> str:
    """Return a canonical text without the chains of `devices` that came after arming, as far as they are like the wanted ones."""
    like = re.search(_DEVICE_CHAIN.format(name=r'([^"]+)'), wanted)
    if like is None:
        return canonical
    named = str(like[1])
    for device in devices:
        chain = like[0].replace(f'device "{named}"', f'device "{device}"')
        chain = chain.replace(f"chain {chain_name(InterfaceName(named))} ", f"chain {chain_name(InterfaceName(device))} ")
        canonical = canonical.replace(chain, "")
    return canonical


def _table_text(table: Table) -> str:
    if table.engine is not Engine.NFT:
        return shown_text(table)
    try:
        return table_text(table)
    except UnsupportedError as error:
        return f"table {table.family} {table.name}: {error}"

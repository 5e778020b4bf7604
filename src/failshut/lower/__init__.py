"""Policy + HostFacts → Ruleset: what the user wants becomes what the kernel runs, one subject a file.

Law: for every packet that docs/security.md does not name, the ruleset's verdict at the choke point is drop.
"""

from __future__ import annotations

from collections.abc import Callable

from failshut.lower.egress import egress_table
from failshut.lower.lock import arp_table, inet_table
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.ruleset import Ruleset, Table

TABLES: tuple[Callable[[Policy, HostFacts], Table | None], ...] = (inet_table, arp_table, egress_table)


def lower(policy: Policy, facts: HostFacts) -> Ruleset:
    """Return the lock for `policy` on the machine that `facts` describe: choke point, ARP, layer under IP."""
    return Ruleset(tuple(table for build in TABLES if (table := build(policy, facts)) is not None))


__all__ = ["lower"]

"""Where the lock's chains hang in iptables: nft's hook and priority as a table and one of the kernel's chains."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.iptables import PREFIX


@dataclass(frozen=True, slots=True)
class Place:
    """A table, the kernel's chain in it, and our own chain to which that jumps first.

    `writes` says whether the packet's own bytes may be written there: the kernel takes that in mangle alone.
    """

    table: str
    chain: str
    own: str

    @property
    def writes(self) -> bool:
        """Whether a rule may write the packet's bytes."""
        return self.table == "mangle"


# By the name of nft's chain, in the order in which the kernel comes by. mangle's POSTROUTING is iptables' last place that may
# refuse: it sees the final interface, and the source before it is translated. What the routing was chosen by is taken off in
# filter's OUTPUT, after the packet was routed anew and before wg-quick's own rules, wherever they stand, could save it in the
# connection.
HOOKED = {
    "prerouting": Place("raw", "PREROUTING", f"{PREFIX}SOURCES"),
    "arrival": Place("mangle", "PREROUTING", f"{PREFIX}ARRIVAL"),
    "input": Place("filter", "INPUT", f"{PREFIX}INPUT"),
    "forward": Place("filter", "FORWARD", f"{PREFIX}FORWARD"),
    "reroute": Place("mangle", "OUTPUT", f"{PREFIX}REROUTE"),
    "outside-zone": Place("raw", "OUTPUT", f"{PREFIX}ZONE"),
    "output": Place("filter", "OUTPUT", f"{PREFIX}OUTPUT"),
    "departure": Place("filter", "OUTPUT", f"{PREFIX}DEPARTURE"),
    "source-nat": Place("nat", "POSTROUTING", f"{PREFIX}NAT"),
    "postrouting": Place("mangle", "POSTROUTING", f"{PREFIX}LEAVING"),
}

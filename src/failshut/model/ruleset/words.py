"""The words that nft has a closed list of: families, hooks, chain types, operators, verdicts."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """Who runs a table's rules. A packet must pass all of them; a drop in any is a drop."""

    NFT = "nft"
    # Rules that iptables-nft wrote into the kernel's nf_tables, as iptables-save says them.
    IPTABLES_NFT = "iptables-nft"
    # The older engine beside nf_tables; nft lists none of it.
    IPTABLES_LEGACY = "iptables-legacy"


class Family(StrEnum):
    """A table's address family."""

    INET = "inet"
    IP = "ip"
    IP6 = "ip6"
    ARP = "arp"
    NETDEV = "netdev"
    BRIDGE = "bridge"


class Hook(StrEnum):
    """Where in a packet's way through the kernel a base chain is called."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"
    INGRESS = "ingress"
    EGRESS = "egress"


class ChainType(StrEnum):
    """A base chain's type. `ROUTE` re-routes when the mark or an address changed."""

    FILTER = "filter"
    ROUTE = "route"
    NAT = "nat"


class Op(StrEnum):
    """A comparison.

    `IN` is nft's implicit bitmask test of flag types (`ct state established,related`): any of these bits. `NOT_IN` (`ct state !
    established,related`): none of them.
    """

    EQ = "=="
    NE = "!="
    LT = "<"
    GT = ">"
    LE = "<="
    GE = ">="
    IN = "in"
    NOT_IN = "!"


class BitOp(StrEnum):
    """Arithmetic on a value's bits. A shift fills with zeros; the width is that of the value."""

    AND = "&"
    OR = "|"
    XOR = "^"
    LEFT = "<<"
    RIGHT = ">>"


class Verdict(StrEnum):
    """A verdict that names no chain."""

    ACCEPT = "accept"
    DROP = "drop"
    RETURN = "return"
    CONTINUE = "continue"


class NatKind(StrEnum):
    """What of a packet is translated. `REDIRECT` is a `DNAT` to the machine itself, `MASQUERADE` an `SNAT` from the device."""

    SNAT = "snat"
    DNAT = "dnat"
    MASQUERADE = "masquerade"
    REDIRECT = "redirect"

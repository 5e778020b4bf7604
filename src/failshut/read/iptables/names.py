"""The names that iptables takes for numbers: protocols, services, ICMP types, log levels, DSCP classes.

A save lists numbers for all but protocols. Source: `iptables -p icmp -h`, `ip6tables -p ipv6-icmp -h`, iptables-extensions(8).
"""

from __future__ import annotations

import re

from failshut.read.names import PROTOCOLS, SERVICES

# iptables knows these without /etc/protocols (xtables_chain_protos in libxtables).
_PROTOCOLS = {**{name.lower(): found for name, found in PROTOCOLS.items()}, "all": 0, "icmp6": 58, "ipv6-mh": 135, "mh": 135}

# type, and code where the name says one.
IcmpNames = dict[str, tuple[int, int | None]]
ICMP: IcmpNames = {
    "echo-reply": (0, None),
    "pong": (0, None),
    "destination-unreachable": (3, None),
    "network-unreachable": (3, 0),
    "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3),
    "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5),
    "network-unknown": (3, 6),
    "host-unknown": (3, 7),
    "network-prohibited": (3, 9),
    "host-prohibited": (3, 10),
    "tos-network-unreachable": (3, 11),
    "tos-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13),
    "host-precedence-violation": (3, 14),
    "precedence-cutoff": (3, 15),
    "source-quench": (4, None),
    "redirect": (5, None),
    "network-redirect": (5, 0),
    "host-redirect": (5, 1),
    "tos-network-redirect": (5, 2),
    "tos-host-redirect": (5, 3),
    "echo-request": (8, None),
    "ping": (8, None),
    "router-advertisement": (9, None),
    "router-solicitation": (10, None),
    "time-exceeded": (11, None),
    "ttl-exceeded": (11, None),
    "ttl-zero-during-transit": (11, 0),
    "ttl-zero-during-reassembly": (11, 1),
    "parameter-problem": (12, None),
    "ip-header-bad": (12, 0),
    "required-option-missing": (12, 1),
    "timestamp-request": (13, None),
    "timestamp-reply": (14, None),
    "address-mask-request": (17, None),
    "address-mask-reply": (18, None),
}
ICMPV6: IcmpNames = {
    "destination-unreachable": (1, None),
    "no-route": (1, 0),
    "communication-prohibited": (1, 1),
    "beyond-scope": (1, 2),
    "address-unreachable": (1, 3),
    "port-unreachable": (1, 4),
    "failed-policy": (1, 5),
    "reject-route": (1, 6),
    "packet-too-big": (2, None),
    "time-exceeded": (3, None),
    "ttl-exceeded": (3, None),
    "ttl-zero-during-transit": (3, 0),
    "ttl-zero-during-reassembly": (3, 1),
    "parameter-problem": (4, None),
    "bad-header": (4, 0),
    "unknown-header-type": (4, 1),
    "unknown-option": (4, 2),
    "echo-request": (128, None),
    "ping": (128, None),
    "echo-reply": (129, None),
    "pong": (129, None),
    "router-solicitation": (133, None),
    "router-advertisement": (134, None),
    "neighbour-solicitation": (135, None),
    "neighbor-solicitation": (135, None),
    "neighbour-advertisement": (136, None),
    "neighbor-advertisement": (136, None),
    "redirect": (137, None),
}

LOG_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
LOG_LEVEL_NAMES = {"panic": 0, "error": 3, "warning": 4, **{name: number for number, name in enumerate(LOG_LEVELS)}}

DSCP_CLASSES = {
    **{f"cs{number}": number * 8 for number in range(8)},
    "be": 0,
    **{f"af{high}{low}": high * 8 + low * 2 for high in range(1, 5) for low in range(1, 4)},
    "ef": 46,
}
TOS_NAMES = {
    "minimize-delay": 0x10,
    "maximize-throughput": 0x08,
    "maximize-reliability": 0x04,
    "minimize-cost": 0x02,
    "normal-service": 0,
}

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


def number(text: str, largest: int) -> int | None:
    """Return a number as strtoul(3) reads it with base 0, or None when it is none or too large."""
    if not _NUMBER.fullmatch(text) or len(text) > 24:
        return None
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" and len(text) > 1 else 10
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if value <= largest else None


def protocol_number(text: str) -> int | None:
    """Return the number of a protocol by name or number; 0 is every protocol. None when it is not known."""
    found = number(text, 255)
    return _PROTOCOLS.get(text.lower()) if found is None else found


def port_number(text: str) -> int | None:
    """Return a port by number or service; None when it is not known."""
    found = number(text, 65535)
    return SERVICES.get(text) if found is None else found

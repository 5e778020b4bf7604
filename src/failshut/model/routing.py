"""Where packets go before the lock decides whether they may: routing rules, routes and a group of devices, as a model.

Routing opens nothing. Without it the lock holds the same, but a route injected on the underlay would starve what it draws away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

from failshut.model.units import InterfaceName, Mark, Port, Prefix, Protocol

# Who installed a rule or a route (rtnetlink(7), rtm_protocol): the number by which ours are known again, and no one else's.
OUR_PROTOCOL = 245
# The group of the devices that lead off the machine (ip-link(8), `group`). A route over one of them wins over no tunnel.
UNDERLAY_GROUP = 26209
# wg-quick deletes every rule with `lookup main suppress_prefixlength 0`, whoever made it: ours says 1.
NO_DEFAULT = 1
ALL_BITS = Mark(0xFFFFFFFF)


class IpVersion(IntEnum):
    """The version of IP a rule is for: each has its own list."""

    IPV4 = 4
    IPV6 = 6


class Table(int):
    """The number of a routing table, 1..4294967295. Raises ValueError outside of it."""

    def __new__(cls, value: int) -> Self:
        """Take a number of 32 bits, without 0."""
        if not 1 <= value <= ALL_BITS:
            raise ValueError(f"a routing table has a number between 1 and {int(ALL_BITS)}: {value} is none")
        return super().__new__(cls, value)


MAIN = Table(254)
# Tailscale's own (net/tsaddr and wgengine/router of its source).
TAILSCALE = Table(52)


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """One routing rule: what it matches, and the table it looks in; `table` None means unreachable.

    `arrived_by` is the device that a forwarded packet came in on. `inverted` applies to all matches together, as in ip-rule(8).
    `suppress_prefix` and `suppress_group` discard what the look-up found: a prefix of this length or shorter, a device of this
    group.
    """

    family: IpVersion
    table: Table | None = MAIN
    to: Prefix | None = None
    mark: Mark | None = None
    mask: Mark = ALL_BITS
    inverted: bool = False
    protocol: Protocol | None = None
    source_port: Port | None = None
    port: Port | None = None
    uid: int | None = None
    arrived_by: InterfaceName | None = None
    suppress_prefix: int | None = None
    suppress_group: int | None = None


@dataclass(frozen=True, slots=True)
class ThrowRoute:
    """A hole in a tunnel's table: what goes to `prefix` is looked up further on, and found in the main table."""

    prefix: Prefix
    table: Table


@dataclass(frozen=True, slots=True)
class Routing:
    """All of it. `rules` stand right after the kernel's own, in this order; `tunnels` and `bridges` get no group.

    `bridges` are patterns; one with a port that leads off the machine gets the group all the same.
    """

    rules: tuple[RoutingRule, ...] = ()
    routes: tuple[ThrowRoute, ...] = ()
    tunnels: tuple[InterfaceName, ...] = field(default=())
    bridges: tuple[str, ...] = ()

    def of(self, family: IpVersion) -> Routing:
        """Return the part for one version of IP."""
        return Routing(
            tuple(each for each in self.rules if each.family is family),
            tuple(each for each in self.routes if each.prefix.version == family),
            self.tunnels,
            self.bridges,
        )

"""Policy + machine → Routing: only what is allowed beside the tunnel is looked up beside it (docs/reference/routing.md).

All rules have preference 0, behind the kernel's own: what wg-quick adds afterwards lands behind them, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from failshut.lower.tailscale import TAILNET
from failshut.lower.transport import mark_of
from failshut.model.host import HostFacts
from failshut.model.marks import TAILSCALE as TAILSCALE_MARK
from failshut.model.marks import TAILSCALE_MASK
from failshut.model.policy import ForwardMode, MulticastName, Policy, Tunnel
from failshut.model.routing import (
    MAIN,
    NO_DEFAULT,
    TAILSCALE,
    UNDERLAY_GROUP,
    IpVersion,
    Routing,
    RoutingRule,
    Table,
    ThrowRoute,
)
from failshut.model.units import Mark, Port, Prefix, Protocol

# Every packet is held against one rule after the other, but finds its route in a tree: more prefixes than these become routes.
_FEW = 32
_LINK_LOCAL = ip_network("fe80::/10")
# Client and server ports (RFC 2131, RFC 8415): a lease is renewed by unicast to the server, which may be beyond the link.
_DHCP = {IpVersion.IPV4: (Port(68), Port(67)), IpVersion.IPV6: (Port(546), Port(547))}
# IPv6's groups are of the link's own scope, and are found in the local table.
_MULTICAST_NAMES = {
    MulticastName.MDNS: ip_network("224.0.0.251/32"),
    MulticastName.LLMNR: ip_network("224.0.0.252/32"),
    MulticastName.SSDP: ip_network("239.255.255.250/32"),
}
_DNS = Port(53)


def lower_routing(policy: Policy, facts: HostFacts) -> Routing:
    """Return the routing that `policy` means on this machine. Law: it opens nothing; with and without it the lock is the same."""
    return Routing(
        # Tunnels with one mark have one rule: the kernel takes none twice.
        rules=tuple(dict.fromkeys(each for family in IpVersion for each in _rules(policy, facts, family))),
        routes=tuple(_routes(policy, facts)),
        tunnels=policy.open_interfaces,
        bridges=policy.forward.bridges,
    )


def _rules(policy: Policy, facts: HostFacts, family: IpVersion) -> Iterator[RoutingRule]:
    yield from _local(policy, family)
    yield from _allowances(policy, family)
    yield from (RoutingRule(family, mark=each) for each in (facts.outside, facts.probe))
    if policy.tailscale:
        yield from _tailscale(policy, facts, family)
    yield from _transports(policy, facts, family)
    yield from _clients(policy, family)
    # Bridges of containers and virtual machines, routes of other tunnels: every device that does not lead off the machine.
    yield RoutingRule(family, suppress_prefix=NO_DEFAULT, suppress_group=UNDERLAY_GROUP)
    for tunnel in policy.open_tunnels:
        yield RoutingRule(family, table_of(tunnel, facts), mark=mark_of(tunnel, facts), inverted=True)
    if policy.transit:
        # Whatever wg-quick adds for the outer tunnel comes behind: nothing takes one hop when the inner tunnel is down.
        yield RoutingRule(family, table=None, mark=Mark(0))


def _clients(policy: Policy, family: IpVersion) -> Iterator[RoutingRule]:
    """Yield how answers find routed clients, whose devices lead off the machine; and a strict reverse-path filter, their way."""
    if policy.forward.mode is ForwardMode.TUNNEL and policy.forward.clients:
        for tunnel in policy.open_tunnels:
            yield RoutingRule(family, arrived_by=tunnel.interface, suppress_prefix=NO_DEFAULT)


def table_of(tunnel: Tunnel, facts: HostFacts) -> Table:
    """Return the table of a tunnel's routes: wg-quick and NetworkManager number it like the mark, systemd-networkd as it is told.

    OpenVPN's routes stand in the main table, where they are found last; a table that nobody fills is passed by.
    """
    return Table(tunnel.table or mark_of(tunnel, facts))


def _local(policy: Policy, family: IpVersion) -> Iterator[RoutingRule]:
    if family is IpVersion.IPV6:
        yield RoutingRule(family, to=_LINK_LOCAL)
    if policy.dhcp:
        client, server = _DHCP[family]
        yield RoutingRule(family, protocol=Protocol.UDP, source_port=client, port=server)
    if policy.lan is None:
        return
    # On the link or nowhere: away from home, what is meant for the LAN is left to the tunnel and not told to the gateway there.
    if not _has_many(policy):
        yield from (RoutingRule(family, to=each, suppress_prefix=NO_DEFAULT) for each in _of(family, policy.lan.prefixes))
        yield from (RoutingRule(family, to=each) for each in _of(family, policy.lan.routed))
    groups = tuple(_MULTICAST_NAMES[each] for each in policy.lan.multicast)
    yield from (RoutingRule(family, to=each) for each in _of(family, groups))


def _allowances(policy: Policy, family: IpVersion) -> Iterator[RoutingRule]:
    for pin in policy.outbound:
        for prefix in _of(family, pin.to):
            yield RoutingRule(family, to=prefix, protocol=pin.protocol, port=pin.port, uid=pin.uid)
    for service in policy.inbound:
        # TCP's answers come from a socket that knows its address; a datagram's source is chosen with its route.
        if service.protocol is not Protocol.UDP:
            continue
        for source in _of(family, service.sources) if service.sources else (None,):
            yield RoutingRule(family, to=source, protocol=Protocol.UDP, source_port=service.port)


def _tailscale(policy: Policy, facts: HostFacts, family: IpVersion) -> Iterator[RoutingRule]:
    """Yield how tailscaled's own packets go, and those for its tailnet, whether it started before wg-quick or after.

    It asks resolvers for every program, by sockets with its mark: those questions belong into the tunnel, where they may be asked.
    """
    for tunnel in policy.open_tunnels:
        for protocol in Protocol:
            yield RoutingRule(
                family, table_of(tunnel, facts), mark=TAILSCALE_MARK, mask=TAILSCALE_MASK, protocol=protocol, port=_DNS
            )
    yield RoutingRule(family, mark=TAILSCALE_MARK, mask=TAILSCALE_MASK)
    yield from (RoutingRule(family, TAILSCALE, to=each) for each in _of(family, tuple(prefix for _, prefix in TAILNET)))


def _transports(policy: Policy, facts: HostFacts, family: IpVersion) -> Iterator[RoutingRule]:
    """Yield how each tunnel's own packets go: by the main table, or by the tunnel that carries it."""
    by_name = {tunnel.interface: tunnel for tunnel in policy.tunnels}
    for tunnel in policy.tunnels:
        outer = by_name.get(tunnel.through) if tunnel.through else None
        yield RoutingRule(family, table_of(outer, facts) if outer else MAIN, mark=mark_of(tunnel, facts))


def _routes(policy: Policy, facts: HostFacts) -> Iterator[ThrowRoute]:
    prefixes = policy.outside.prefixes if policy.outside else ()
    if policy.lan and _has_many(policy):
        prefixes += policy.lan.prefixes + policy.lan.routed
    for table in dict.fromkeys(table_of(tunnel, facts) for tunnel in policy.open_tunnels):
        yield from (ThrowRoute(prefix, table) for prefix in dict.fromkeys(prefixes))


def _has_many(policy: Policy) -> bool:
    return policy.lan is not None and len(policy.lan.prefixes) + len(policy.lan.routed) > _FEW


def _of(family: IpVersion, prefixes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    return tuple(dict.fromkeys(each for each in prefixes if each.version == family))

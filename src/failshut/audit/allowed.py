"""What a policy allows to leave on the underlay, packet by packet: docs/security.md said as predicates, apart from the compiler.

What nothing here names does not leave. The fields are those of the packet as it leaves, but for the mark: the choke point writes
its stamp over it, so the tunnel's mark is asked of the packet as it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When, among, both, compares, either, equals
from failshut.audit.words import UDP
from failshut.audit.world import DADDR, OIF, SADDR, World
from failshut.model.host import HostFacts, WireGuardKind
from failshut.model.marks import ARRIVAL, ARRIVAL_SHIFT, TAILSCALE, TAILSCALE_MASK
from failshut.model.policy import TAILSCALE_INTERFACE, Inbound, Lan, Outbound, Policy, Tailscale, Tunnel
from failshut.model.ruleset import (
    AnySet,
    Binary,
    BitOp,
    Ct,
    Exthdr,
    Fib,
    Match,
    Meta,
    NamedSet,
    Op,
    Payload,
    Range,
    Ruleset,
    Scalar,
    Table,
)
from failshut.model.units import Endpoint, Prefix, Protocol

LOCK = "failshut"
_SKUID = Meta("skuid")
_KERNEL = FieldIn("socket", 1, (0,))
_DHCP_SERVERS = tuple(
    ip_network(each) for each in ("10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "255.255.255.255/32")
)
_LINK = ip_network("fe80::/10")
_GROUPS = ip_network("ff02::/16")
_DHCP6_SERVERS: tuple[Scalar, ...] = (_LINK, ip_address("ff02::1:2"))
_TYPE, _LENGTH, _HOPS = Payload("icmpv6", "type"), Payload("ip6", "length"), Payload("ip6", "hoplimit")
_DNS = (53, 853)
_MULTICAST_DNS = (5353, 5355)
_WITH_PORTS = ("tcp", "udp", "udplite", "sctp", "dccp")
_NAMES: dict[str, tuple[tuple[str, int], ...]] = {
    "mdns": (("224.0.0.251", 5353), ("ff02::fb", 5353)),
    "llmnr": (("224.0.0.252", 5355), ("ff02::1:3", 5355)),
    "ssdp": (("239.255.255.250", 1900), ("ff02::c", 1900)),
}


def world_of(policy: Policy, host: HostFacts, alone: bool = True) -> World:
    """Return the world that a policy is proved in.

    `alone`: no other table stands beside the lock. One that does may write the tunnel's mark, so that a packet of root's to the
    endpoint is the tunnel's by every sign that there is; the mark it began with is then not asked for. And it may save the mark of
    what is outside the tunnel in the connection and restore it later: such a connection was allowed when it got the mark.
    """
    tunnels = tuple(str(each.interface) for each in policy.tunnels) + ((TAILSCALE_INTERFACE,) if policy.tailscale else ())
    endpoints = tuple(endpoint for each in policy.tunnels for endpoint in each.endpoints)
    lan = policy.lan.prefixes if policy.lan else ()
    allowed: dict[int, Predicate] = {family: Some(tuple(_allowances(policy, host, family, alone))) for family in (4, 6)}
    made = World(tunnels, endpoints, lan, underlay=tuple(str(each) for each in host.underlay), allowed=allowed)
    uplinked = tuple(str(each) for each in host.uplinked)
    made = replace(made, inside=tuple(policy.forward.bridges), uplinked=uplinked, forwarded=_forwarded(policy, tunnels))
    return replace(made, frames=Some(tuple(_frames(policy, host))))


def as_granted(ruleset: Ruleset) -> Ruleset:
    """Return our lock with its timed sets as they are listed: no packet adds to them, and time only takes away."""
    return Ruleset(tuple(_frozen(each) if each.name == LOCK else each for each in ruleset.tables))


def _frozen(table: Table) -> Table:
    return replace(table, sets=tuple(each if "dynamic" in each.flags else _plain(each) for each in table.sets))


def _plain(named: NamedSet) -> NamedSet:
    return replace(named, flags=named.flags - {"timeout"}, timeout=0)


def _allowances(policy: Policy, host: HostFacts, family: int, alone: bool) -> Iterator[Predicate]:
    for tunnel in policy.tunnels:
        yield from (_transport(tunnel, each, host, alone) for each in tunnel.endpoints if each.address.version == family)
    if not alone:
        # Only our own rules know this machine's mark of what is outside; a table that saves and restores marks gives it back to the
        # connection that had it.
        ours = (int(host.outside), int(host.probe))
        yield either(FieldIn("ct mark", 32, ours), FieldIn("mark", 32, ours))
    if policy.dhcp:
        yield _dhcp(host, family)
    if policy.ndp and family == 6:
        yield from _discovery(host)
    own = both(equals(Fib(("saddr", "oif"), "type"), "local"), Not(Is(Match(Exthdr("rt"), "exists"))))
    for number, device in enumerate(host.underlay, 1):
        yield from (both(own, _reply(each, str(device), number, family)) for each in policy.inbound)
    yield from (both(own, _exception(each, family)) for each in policy.outbound)
    if policy.tailscale:
        yield both(own, _tailscale(policy.tailscale, family))
    if policy.outside:
        lookups = both(among(Meta("l4proto"), _WITH_PORTS), among(Payload("th", "dport"), _DNS))
        yield both(own, among(DADDR[family], _fitting(policy.outside.prefixes, family)), Not(lookups))
    if policy.lan:
        yield both(own, _lan(policy.lan, family))
    # What the tunnel's device sends on to a client is a reply that came through it.
    clients = among(OIF, tuple(str(each) for each in policy.forward.clients))
    yield both(DeviceIs("via", tuple(str(each.interface) for each in policy.tunnels)), clients, equals(Ct("direction"), "reply"))


def _forwarded(policy: Policy, tunnels: tuple[str, ...]) -> Predicate:
    """Allow replies out of the tunnel, to the clients that may use it."""
    clients = among(OIF, tuple(str(each) for each in policy.forward.clients))
    return both(among(Meta("iifname"), tunnels, When.START), clients, equals(Ct("direction"), "reply"))


def _tailscale(tailscale: Tailscale, family: int) -> Predicate:
    """Allow tailscaled's own packets: its mark, root's socket, and its UDP port or its servers' ports."""
    mark = Is(Match(Binary(BitOp.AND, Meta("mark"), int(TAILSCALE_MASK)), int(TAILSCALE)), When.START)
    udp = both(
        equals(Payload("udp", "sport"), int(tailscale.port)),
        Not(among(Payload("udp", "dport"), (Range(0, 1023), *_MULTICAST_DNS))),
    )
    tcp = among(Payload("tcp", "dport"), tuple(int(each) for each in tailscale.tcp))
    if tailscale.servers:
        tcp = both(tcp, among(DADDR[family], _fitting(tailscale.servers, family)))
    return both(mark, equals(_SKUID, 0), either(udp, tcp))


def _transport(tunnel: Tunnel, endpoint: Endpoint, host: HostFacts, alone: bool) -> Predicate:
    """Allow a tunnel's own packets: address, protocol, port, mark, and that they come from the tunnel or from root's socket."""
    live = host.tunnels.get(tunnel.interface)
    mark = tunnel.fwmark or (live.fwmark if live else None) or tunnel.default_mark
    there = both(
        equals(DADDR[endpoint.address.version], endpoint.address),
        equals(Payload(endpoint.protocol, "dport"), int(endpoint.port)),
        FieldIn("mark", 32, (int(mark),)) if alone else All(),
    )
    from_tunnel = both(_KERNEL, DeviceIs("via", (str(tunnel.interface),)))
    # A program can carry WireGuard later, where the kernel does not now; no program's packet comes from the tunnel's device.
    by_kernel = live is not None and live.kind is WireGuardKind.KERNEL
    senders = (from_tunnel,) if by_kernel else (from_tunnel, equals(_SKUID, 0))
    # TCP carries OpenVPN, which is a program whoever carries WireGuard.
    return both(there, either(*senders, *([equals(_SKUID, 0)] if endpoint.protocol is Protocol.TCP else [])))


def _dhcp_users(host: HostFacts) -> Predicate:
    return among(_SKUID, tuple(int(each) for each in host.dhcp_uids))


def _dhcp(host: HostFacts, family: int) -> Predicate:
    source, target = ((68, 67), (546, 547))[family == 6]
    ports = both(equals(Payload("udp", "sport"), source), equals(Payload("udp", "dport"), target), _dhcp_users(host))
    if family == 4:
        return both(ports, among(DADDR[4], _DHCP_SERVERS))
    return both(ports, equals(SADDR[6], _LINK), among(DADDR[6], _DHCP6_SERVERS))


def _discovery(host: HostFacts) -> Iterator[Predicate]:
    """Allow neighbour and router discovery, and listener reports."""
    short = both(equals(_HOPS, 255), compares(_LENGTH, Op.LE, 64))
    from_link = either(_KERNEL, _dhcp_users(host))
    yield both(among(_TYPE, (133, 135, 136)), short, among(DADDR[6], (_LINK, _GROUPS)), from_link)
    # The kernel asks for global addresses only on the link that they are on.
    yield both(among(_TYPE, (135, 136)), short, _KERNEL)
    report = both(equals(_HOPS, 1), compares(_LENGTH, Op.LE, 136), equals(DADDR[6], _GROUPS))
    yield both(among(_TYPE, (131, 132, 143)), report, from_link)


def _fitting(prefixes: tuple[Prefix, ...], family: int) -> tuple[Scalar, ...]:
    return tuple(each for each in prefixes if each.version == family)


def _reply(service: Inbound, device: str, number: int, family: int) -> Predicate:
    """Allow a reply of a service: by the device that its connection came in on, which the connection's mark holds."""
    arrived = Match(Binary(BitOp.AND, Ct("mark"), int(ARRIVAL)), number << ARRIVAL_SHIFT)
    parts: list[Predicate] = [
        equals(OIF, device),
        equals(Ct("direction"), "reply"),
        Is(arrived),
        equals(Payload(service.protocol, "sport"), int(service.port)),
    ]
    if service.sources:
        parts.append(among(DADDR[family], _fitting(service.sources, family)))
    return All(tuple(parts))


def _exception(outbound: Outbound, family: int) -> Predicate:
    parts: list[Predicate] = [
        among(DADDR[family], _fitting(outbound.to, family)),
        equals(Payload(outbound.protocol, "dport"), int(outbound.port)),
    ]
    if outbound.uid is not None:
        parts.append(equals(_SKUID, int(outbound.uid)))
    return All(tuple(parts))


def _lan(lan: Lan, family: int) -> Predicate:
    """Allow the local network, without lookups of names unless they were asked for."""
    refused = (() if lan.dns else _DNS) + (() if lan.multicast else _MULTICAST_DNS)
    lookups = both(among(Meta("l4proto"), _WITH_PORTS), among(Payload("th", "dport"), refused))
    there = among(DADDR[family], _fitting((*lan.prefixes, *lan.routed), family))
    if lan.services:
        there = both(there, either(*(_service(each.protocol, int(each.low), int(each.high)) for each in lan.services)))
    groups = [pair for name in lan.multicast for pair in _NAMES[str(name)] if ip_address(pair[0]).version == family]
    named = (both(equals(DADDR[family], ip_address(host)), equals(Payload("udp", "dport"), port)) for host, port in groups)
    parts: list[Predicate] = [either(there, *named)] if lan.dns and lan.multicast else [Not(lookups), either(there, *named)]
    if lan.interfaces:
        parts.append(among(OIF, tuple(lan.interfaces)))
    return All(tuple(parts))


def _service(protocol: Protocol, low: int, high: int) -> Predicate:
    return equals(Payload(protocol, "dport"), low if low == high else Range(low, high))


def _frames(policy: Policy, host: HostFacts) -> Iterator[Predicate]:
    """Allow the link's own frames, and a DHCP client's broadcast, which it may have to write below IP."""
    kind, length = Payload("ether", "type"), Meta("length")
    group = Payload("ether", "daddr")
    own = tuple(each.ip for tunnel in policy.tunnels for each in tunnel.addresses if each.version == 4)
    not_ours = Not(among(Payload("arp", "saddr ip"), own)) if own else All()
    yield both(equals(kind, "arp"), compares(length, Op.LE, 64), not_ours)
    yield both(Is(Match(kind, AnySet((0x888E, 0x88C7)))), equals(_SKUID, 0))
    control = compares(length, Op.LE, 128)
    yield both(equals(group, "01:80:c2:00:00:00"), compares(kind, Op.LT, 0x0600), control)
    yield both(equals(group, "01:80:c2:00:00:02"), equals(kind, 0x8809), control)
    if policy.dhcp:
        ports = both(equals(Payload("udp", "sport"), 68), equals(Payload("udp", "dport"), 67), FieldIn("l4proto", 8, (UDP,)))
        everyone = both(equals(group, "ff:ff:ff:ff:ff:ff"), equals(DADDR[4], ip_address("255.255.255.255")))
        yield both(everyone, ports, _dhcp_users(host))

"""What a policy allows to leave on the underlay, packet by packet: docs/security.md said as predicates, apart from the compiler.

What nothing here names does not leave. The fields are those of the packet as it leaves, but for the mark: the choke point writes
its stamp over it, so the tunnel's mark is asked of the packet as it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from failshut.audit.netfilter.words import UDP
from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When, among, both, compares, either, equals
from failshut.audit.world import DADDR, OIF, SADDR, World
from failshut.audit.world.granted import Granted
from failshut.model.host import HostFacts, WireGuardKind
from failshut.model.marks import ARRIVAL, ARRIVAL_SHIFT, TAILSCALE, TAILSCALE_MASK
from failshut.model.policy import TAILSCALE_INTERFACE, Inbound, Lan, Outbound, Policy, Tailscale, Tunnel, TunnelKind
from failshut.model.ruleset import (
    AnySet,
    Binary,
    BitOp,
    Concat,
    Ct,
    Exthdr,
    Fib,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    Scalar,
)
from failshut.model.same import once
from failshut.model.timed import (
    CANDIDATES,
    OUTSIDE_PROGRAMS,
    PORTAL_DNS,
    PROBE,
    TIMED_LAN,
    TIMED_TO,
    TIMED_USER,
    programs_name,
)
from failshut.model.units import Address, Endpoint, Prefix, Protocol

_SKUID = Meta("skuid")
_KERNEL = FieldIn("socket", 1, (0,))
_DHCP_SERVERS = tuple(
    ip_network(each) for each in ("10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "255.255.255.255/32")
)
_LINK = ip_network("fe80::/10")
_GROUPS = ip_network("ff02::/16")
_DHCP6_SERVERS: tuple[Scalar, ...] = (_LINK, ip_address("ff02::1:2"))
_TYPE, _LENGTH, _HOPS = Payload("icmpv6", "type"), Payload("ip6", "length"), Payload("ip6", "hoplimit")
# No router carries a packet on whose hop limit is 1.
_LINK_ONLY = either(equals(Payload("ip", "ttl"), 1), equals(_HOPS, 1))
_DNS = (53, 853)
_MULTICAST_DNS = (5353, 5355)
_WITH_PORTS = ("tcp", "udp", "udplite", "sctp", "dccp")
_NAMES: dict[str, tuple[tuple[str, int], ...]] = {
    "mdns": (("224.0.0.251", 5353), ("ff02::fb", 5353)),
    "llmnr": (("224.0.0.252", 5355), ("ff02::1:3", 5355)),
    "ssdp": (("239.255.255.250", 1900), ("ff02::c", 1900)),
}
# As after every boot.
NOTHING_OPEN = Granted({})


def world_of(policy: Policy, host: HostFacts, alone: bool = True, open_now: Granted = NOTHING_OPEN) -> World:
    """Return the world that a policy is proved in. `open_now` is what the lock's sets hold.

    `alone`: no other table stands beside the lock. One that does may write the tunnel's mark, so that a packet of root's to the
    endpoint is the tunnel's by every sign that there is; the mark it began with is then not asked for. And it may save the mark of
    what is outside the tunnel in the connection and restore it later: such a connection was allowed when it got the mark.
    """
    tunnels = tuple(str(each.interface) for each in policy.tunnels) + ((TAILSCALE_INTERFACE,) if policy.tailscale else ())
    endpoints = tuple(endpoint for each in policy.tunnels for endpoint in each.endpoints)
    lan = policy.lan.prefixes if policy.lan else ()
    cases = {family: _Case(policy, host, family, alone, open_now) for family in (4, 6)}
    allowed: dict[int, Predicate] = {family: Some(tuple(_allowances(case))) for family, case in cases.items()}
    made = World(tunnels, endpoints, lan, underlay=tuple(str(each) for each in host.underlay), allowed=allowed)
    uplinked = tuple(str(each) for each in host.uplinked)
    made = replace(made, inside=tuple(policy.forward.bridges), uplinked=uplinked, forwarded=_forwarded(policy, tunnels))
    carried: dict[int, Predicate] = {family: Some(tuple(_in_transit(case))) for family, case in cases.items()}
    made = replace(made, transit=tuple(sorted(map(str, policy.transit))), carried=carried)
    return replace(made, frames=Some(tuple(_frames(policy, host))))


@dataclass(frozen=True, slots=True)
class _Case:
    """What an allowance depends on."""

    policy: Policy
    host: HostFacts
    family: int
    alone: bool
    open_now: Granted

    def site(self) -> Concat:
        """Return the key of a set of sites: address, protocol, port."""
        return Concat((DADDR[self.family], Meta("l4proto"), Payload("th", "dport")))

    def marked(self, mark: int) -> Predicate:
        """Return that the packet began with a mark. Where another table may write it, it is not asked for."""
        return FieldIn("mark", 32, (int(mark),)) if self.alone else All()


def _allowances(case: _Case) -> Iterator[Predicate]:
    yield from _carried(case)
    yield from _on_link(case)
    own = both(
        equals(Fib(("saddr", "oif"), "type"), "local"),
        Not(Is(Match(Exthdr("rt"), "exists"))),
        *(Is(Match(Payload("ip", "hdrlength"), 5)) for _ in range(case.family == 4)),
    )
    yield from (both(own, each) for each in (*_by_policy(case), *_for_a_time(case), *_outside(case)))


def _carried(case: _Case) -> Iterator[Predicate]:
    """Allow the tunnels' own packets, to their endpoints and to what may become one; and what they send on to clients."""
    policy, host = case.policy, case.host
    for tunnel in policy.tunnels:
        # What is carried by another tunnel leaves by that one.
        if tunnel.through is None:
            yield from _transports(case, tunnel)
    if not case.alone:
        # Only our own rules know this machine's mark of what is outside; a table that saves and restores marks gives it back to the
        # connection that had it.
        ours = (int(host.outside), int(host.probe))
        yield either(FieldIn("ct mark", 32, ours), FieldIn("mark", 32, ours))
    # What the tunnel's device sends on to a client is a reply that came through it, or the other site's call.
    yield both(DeviceIs("via", tuple(str(each.interface) for each in policy.tunnels)), _to_clients(policy))


def _in_transit(case: _Case) -> Iterator[Predicate]:
    """Allow into a tunnel that carries another what that one sends."""
    for tunnel in case.policy.tunnels:
        if tunnel.through is not None:
            yield from (both(equals(OIF, str(tunnel.through)), each) for each in _transports(case, tunnel))


def _transports(case: _Case, tunnel: Tunnel) -> Iterator[Predicate]:
    ours = (each for each in tunnel.endpoints if each.address.version == case.family)
    yield from (_transport(case, tunnel, _at(each), each.protocol) for each in ours)
    yield _transport(case, tunnel, case.open_now.holds(case.site(), f"{CANDIDATES}{case.family}"), None)


def _on_link(case: _Case) -> Iterator[Predicate]:
    """Allow what keeps the link itself alive."""
    if case.policy.dhcp:
        yield _dhcp(case.host, case.family)
    if case.policy.ndp and case.family == 6:
        yield from _discovery(case.host)


def _by_policy(case: _Case) -> Iterator[Predicate]:
    """Allow what the policy names, as far as it is not held back until it is asked for."""
    policy, family = case.policy, case.family
    for number, device in enumerate(case.host.underlay, 1):
        for each in policy.inbound:
            yield both(_reply(each, str(device), number, family), case.open_now.gate(each.name, on_demand=each.on_demand))
    for pin in policy.outbound:
        whose = case.open_now.programs(programs_name(pin.name), pin.cgroup) if pin.cgroup else All()
        yield both(_exception(pin, family), whose, case.open_now.gate(pin.name, on_demand=pin.on_demand))
    if policy.tailscale:
        yield _tailscale(policy.tailscale, family)
    if policy.lan:
        yield both(_lan(policy.lan, family), case.open_now.gate("lan", on_demand=policy.lan.on_demand))


def _for_a_time(case: _Case) -> Iterator[Predicate]:
    """Allow what was opened by name: a network on the link, a site, the server that our own probe asks."""
    family, held = case.family, case.open_now.holds
    yield both(held(DADDR[family], f"{TIMED_LAN}{family}"), Not(_lookups(*_DNS, *_MULTICAST_DNS)), _LINK_ONLY)
    yield held(case.site(), f"{TIMED_TO}{family}")
    yield held(Concat((*case.site().parts, _SKUID)), f"{TIMED_USER}{family}")
    yield both(case.marked(case.host.probe), equals(_SKUID, 0), held(case.site(), f"{PROBE}{family}"))


def _outside(case: _Case) -> Iterator[Predicate]:
    """Allow what stays outside the tunnel: networks, programs of the slice, and the browser at a captive portal."""
    policy, family = case.policy, case.family
    asked = both(among(Meta("l4proto"), ("tcp", "udp")), among(Payload("th", "dport"), _DNS))
    if policy.outside:
        yield both(among(DADDR[family], _fitting(policy.outside.prefixes, family)), Not(_lookups(*_DNS)))
        resolvers = tuple(each for each in policy.outside.dns if each.version == family)
        named = both(asked, among(DADDR[family], resolvers))
        yield both(case.open_now.programs(OUTSIDE_PROGRAMS, policy.outside.cgroup), either(Not(_lookups(*_DNS)), named))
    if policy.portal:
        resolver = both(asked, equals(Payload("th", "dport"), 53), case.open_now.holds(DADDR[family], f"{PORTAL_DNS}{family}"))
        yield both(case.open_now.sign_in(), either(resolver, among(Payload("tcp", "dport"), (80, 443))))


def _lookups(*ports: int) -> Predicate:
    return both(among(Meta("l4proto"), _WITH_PORTS), among(Payload("th", "dport"), ports))


def _forwarded(policy: Policy, tunnels: tuple[str, ...]) -> Predicate:
    """Allow out of the tunnel what is for the clients that may use it."""
    return both(among(Meta("iifname"), tunnels, When.START), _to_clients(policy))


def _to_clients(policy: Policy) -> Predicate:
    """Allow to routed clients replies, and what the networks at the tunnel's other end say to those of the clients."""
    forward = policy.forward
    calls = (
        both(among(SADDR[family], _fitting(forward.remote, family)), among(DADDR[family], _fitting(forward.local, family)))
        for family in (4, 6)
    )
    clients = among(OIF, tuple(str(each) for each in forward.served_clients))
    return both(clients, either(equals(Ct("direction"), "reply"), *calls))


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


def _at(endpoint: Endpoint) -> Predicate:
    return both(
        equals(DADDR[endpoint.address.version], endpoint.address), equals(Payload(endpoint.protocol, "dport"), int(endpoint.port))
    )


def _transport(case: _Case, tunnel: Tunnel, there: Predicate, protocol: Protocol | None) -> Predicate:
    """Allow a tunnel's own packets: address, protocol, port, mark, and that they come from the tunnel or from root's socket."""
    live = case.host.tunnels.get(tunnel.interface)
    mark = tunnel.fwmark or case.host.marks.get(tunnel.interface) or tunnel.default_mark
    from_tunnel = both(_KERNEL, DeviceIs("via", (str(tunnel.interface),)))
    # A program can carry WireGuard later, where the kernel does not now; no program's packet comes from the tunnel's device.
    by_kernel = live is not None and live.kind is WireGuardKind.KERNEL
    # OpenVPN is a program, whoever carries WireGuard; what TCP carries is one too.
    is_openvpn = tunnel.kind is TunnelKind.OPENVPN
    by_program = is_openvpn or not by_kernel or protocol is Protocol.TCP
    senders = (*([] if is_openvpn else [from_tunnel]), *([among(_SKUID, tunnel.owners)] if by_program else []))
    return both(there, case.marked(mark), either(*senders))


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


@once
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
    """Allow the local network, without lookups of names unless they were asked for; on the link, no further than that."""
    by_name = {"mdns": 5353, "llmnr": 5355}
    refused = () if lan.dns else (*_DNS, *(port for name, port in by_name.items() if name not in lan.multicast))
    there: Predicate = either(
        both(among(DADDR[family], _fitting(lan.prefixes, family)), _LINK_ONLY), among(DADDR[family], _fitting(lan.routed, family))
    )
    if lan.services:
        there = both(there, either(*(_service(each.protocol, int(each.low), int(each.high)) for each in lan.services)))
    groups = (_group(str(name), ip_address(host), port) for name in lan.multicast for host, port in _NAMES[str(name)])
    devices = among(OIF, tuple(lan.interfaces)) if lan.interfaces else All()
    return both(Not(_lookups(*refused)), either(there, *groups), devices)


def _group(name: str, group: Address, port: int) -> Predicate:
    # mDNS is sent with the hop limit 255 (RFC 6762, 11).
    hops = _LINK_ONLY if name == "ssdp" else All()
    return both(equals(DADDR[group.version], group), equals(Payload("udp", "dport"), port), hops)


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

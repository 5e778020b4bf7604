"""Packets in question, by kind: by their connection's state, their sender, their protocol, and where they go."""

from __future__ import annotations

from failshut.audit.netfilter.fields import GROUP
from failshut.audit.netfilter.words import ICMP, ICMPV6, NEW, number
from failshut.audit.predicate import FieldIn, Not, Predicate, Some, When, among, both, either, equals
from failshut.audit.world import DADDR, NEAR, OWN, SADDR, World, endpoint_hosts, to_any
from failshut.model.ruleset import Meta, Payload, Range

DNS_PORTS = (53, 853)
_PROTO = Meta("l4proto")


def state(*states: int) -> Predicate:
    """Return that the connection is in one of these states."""
    return FieldIn("ct state", 32, states)


# Of a new connection also what follows the first packet before an answer; nat chains are not asked about that any more.
NEWLY = state(NEW)
FIRST = FieldIn("first", 1, (1,))
OPENING = both(NEWLY, FIRST)
ORDINARY_FIELDS = ("mark", "ct mark")
# Who may give its socket a mark or an address of others is no ordinary program.
SOCKET_FIELDS = ("socket mark 0", "socket transparent 0")


def ordinary(world: World) -> Predicate:
    """Return that nothing tells the sender from any other program: no mark, nor a control group that rules name but its own."""
    plain = (FieldIn(name, 32, (0,)) for name in ORDINARY_FIELDS)
    class_, path = (int(world.cgroup, 0), "") if world.cgroup[:1].isdigit() else (0, world.cgroup)
    parents = path.split("/") if path else []
    above = ((level, "/".join(parents[:level]) if level <= len(parents) else 0) for level in world.levels)
    groups = (
        FieldIn("cgroup", 32, (class_,)),
        *(FieldIn(f"socket cgroupv2 {at}", 256, (number(each, GROUP),)) for at, each in above),
    )
    sockets = (FieldIn(name, 32, (0,)) for name in SOCKET_FIELDS)
    users = (FieldIn("skuid", 32, (world.uid,)), FieldIn("skgid", 32, (world.gid,)))
    return both(*plain, *groups, *sockets, FieldIn("socket", 1, (1,)), *users)


def from_here(world: World, family: int) -> Predicate:
    """Return that the source is no server's: it is another machine, and nobody here sends from its address."""
    servers = tuple(each for each in endpoint_hosts(world) if each.version == family)
    return Not(among(SADDR[family], servers, When.START))


def _port(field: str, values: tuple[int, ...]) -> Predicate:
    return both(among(_PROTO, ("udp", "tcp")), among(Payload("th", field), values))


DNS = _port("dport", DNS_PORTS)
DHCP = either(
    both(equals(Payload("udp", "sport"), 68), equals(Payload("udp", "dport"), 67)),
    both(equals(Payload("udp", "sport"), 546), equals(Payload("udp", "dport"), 547)),
)
ANY_ICMP = FieldIn("l4proto", 8, (ICMP, ICMPV6))
LINK_ICMP = among(Payload("icmpv6", "type"), (Range(130, 137), 143))


def internet(world: World, family: int) -> Predicate:
    """Return that the packet goes to no address that is near, said to be the LAN's, or named on purpose."""
    near = (*NEAR[family], *world.lan, *endpoint_hosts(world), *world.named)
    return Not(to_any(near, family))


def local(world: World, family: int) -> Predicate:
    """Return that the packet goes to the link or the LAN, and neither to this machine, to a server, nor where the rules name."""
    near = to_any((*NEAR[family], *world.lan), family)
    return both(near, Not(to_any((*OWN[family], *endpoint_hosts(world), *world.named), family)))


def at_endpoint(world: World, family: int) -> Predicate:
    """Return that the packet goes to an endpoint's address, protocol and port."""
    return Some(
        tuple(
            both(equals(DADDR[family], each.address), equals(Payload(each.protocol, "dport"), int(each.port)))
            for each in world.endpoints
            if each.address.version == family
        )
    )


# Who listens there has what it agrees on sent as ESP or AH, which have no port (RFC 7296).
_IKE = (500, 4500)


def of_tunnel(world: World, family: int) -> Predicate:
    """Return that the packet goes where the tunnel's own do: to an endpoint, or to one of IKE in IPsec's own protocols."""
    hosts = {each.address for each in world.endpoints if int(each.port) in _IKE and each.address.version == family}
    carried = (both(equals(DADDR[family], each), among(_PROTO, ("esp", "ah"))) for each in sorted(hosts, key=int))
    return either(at_endpoint(world, family), *carried)

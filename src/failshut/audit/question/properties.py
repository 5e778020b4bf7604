"""The questions that an audit asks: the packets in question, and whether such a packet is a leak or is needed.

With a policy (`World.is_strict`) every packet on the underlay that it does not allow is a leak, whoever sent it. Without one the
questions are about a program that nothing was promised to, and what a ruleset's author pinned on purpose is a note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED, INVALID, RELATED, UNTRACKED
from failshut.audit.predicate import All, DeviceIs, FieldIn, Not, Predicate, Some, When, among, both, either, equals
from failshut.audit.question.packets import (
    ANY_ICMP,
    DHCP,
    DNS,
    FIRST,
    LINK_ICMP,
    NEWLY,
    OPENING,
    at_endpoint,
    from_here,
    internet,
    local,
    of_tunnel,
    ordinary,
    state,
)
from failshut.audit.world import IIF, LOOPBACK, OIF, OWN, SADDR, World, endpoint_hosts, on_underlay, to_any
from failshut.model.ruleset import Payload


class Sense(StrEnum):
    """What it means that such a packet exists: a leak; something to know; or that what must work does."""

    LEAK = "leak"
    NOTE = "note"
    NEED = "need"


@dataclass(frozen=True, slots=True)
class Property:
    """One question: `asks` returns the packets in question for a family, or None where it makes no sense."""

    name: str
    title: str
    way: Way
    sense: Sense
    asks: Callable[[World, int], Predicate | None]
    # What makes a leak of this kind possible, in half a sentence after the packet.
    because: str = ""
    families: tuple[int, ...] = (4, 6)


def _shut(which: Predicate, reach: Callable[[World, int], Predicate]) -> Callable[[World, int], Predicate | None]:
    """Return a question: packets of a kind that leave on the underlay, to where nothing may go."""

    def asks(world: World, family: int) -> Predicate | None:
        if world.allowed is not None:
            return both(on_underlay(world), which, Not(world.allowed[family]))
        opening = either(Not(NEWLY), FIRST)
        return both(on_underlay(world), which, opening, reach(world, family), ordinary(world), from_here(world, family))

    return asks


def _beyond_policy(world: World, family: int) -> Predicate | None:
    """Return every packet that the policy does not allow: the kinds below are parts of this one, so that a leak has its name."""
    return None if world.allowed is None else both(on_underlay(world), Not(world.allowed[family]))


def _exempt(world: World, family: int) -> Predicate | None:
    if world.is_strict or world.is_of_one:
        return None
    program = both(Not(ordinary(world)), DeviceIs("via", ("",)), from_here(world, family))
    return both(on_underlay(world), internet(world, family), Not(LINK_ICMP), program)


def _named(world: World, family: int) -> Predicate | None:
    if world.is_strict or not any(each.version == family for each in world.named):
        return None
    pinned = both(to_any(world.named, family), Not(to_any(endpoint_hosts(world), family)))
    return both(on_underlay(world), pinned, OPENING, ordinary(world))


def _other_port(world: World, family: int) -> Predicate | None:
    if not any(each.version == family for each in endpoint_hosts(world)):
        return None
    there = both(to_any(endpoint_hosts(world), family), Not(of_tunnel(world, family)))
    return _shut(both(there, OPENING), lambda *_: All())(world, family)


def _other_program(world: World, family: int) -> Predicate | None:
    if not any(each.address.version == family for each in world.endpoints):
        return None
    return _shut(both(of_tunnel(world, family), OPENING), lambda *_: All())(world, family)


def _forwarded(world: World, family: int) -> Predicate | None:
    if world.is_of_one:
        return None
    if world.allowed is not None:
        return both(on_underlay(world), Not(world.forwarded))
    return both(_sent_on(world, family), Not(among(IIF, world.tunnels, When.START)))


def _from_tunnel(world: World, family: int) -> Predicate | None:
    """Return what somebody behind a tunnel opens. A reply that comes out of it goes on to the client that asked."""
    if world.is_strict or world.is_of_one:
        return None
    return both(_sent_on(world, family), among(IIF, world.tunnels, When.START), OPENING)


def _sent_on(world: World, family: int) -> Predicate:
    return both(on_underlay(world), internet(world, family), FieldIn("mark", 32, (0,)), FieldIn("ct mark", 32, (0,)))


def _into_transit(world: World, family: int) -> Predicate | None:
    return both(among(OIF, world.transit), Not(world.carried[family])) if world.transit else None


def _frame(world: World, family: int) -> Predicate | None:
    del family
    if world.is_of_one:
        return None
    # A device that is not there yet has no chain of its own; when it comes, arming gives it one.
    device = among(OIF, world.underlay) if world.is_strict else on_underlay(world)
    return both(device, FieldIn("mark", 32, (0,)), Not(world.frames))


def _handshake(world: World, family: int) -> Predicate | None:
    if not any(each.address.version == family for each in world.endpoints):
        return None
    return both(on_underlay(world), at_endpoint(world, family), OPENING)


def _answer(world: World, family: int) -> Predicate | None:
    there = tuple(
        both(
            equals(SADDR[family], each.address, When.START),
            equals(Payload(each.protocol, "sport"), int(each.port), When.START),
        )
        for each in world.endpoints
        if each.address.version == family
    )
    arrives = Not(among(IIF, (LOOPBACK, *world.tunnels), When.START))
    return both(arrives, Some(there), state(ESTABLISHED), FieldIn("ct direction", 8, (1,))) if there else None


def _web(port: int) -> Predicate:
    return both(equals(Payload("tcp", "dport"), port, When.START), OPENING)


def _loopback_out(world: World, family: int) -> Predicate | None:
    del family
    return both(equals(OIF, LOOPBACK), equals(OIF, LOOPBACK, When.START), _web(8123), ordinary(world))


def _loopback_in(world: World, family: int) -> Predicate | None:
    del world, family
    return both(equals(IIF, LOOPBACK, When.START), _web(8123))


def _tunnel_out(world: World, family: int) -> Predicate | None:
    return both(among(OIF, world.tunnels), _web(443), ordinary(world), internet(world, family))


def _tunnel_in(world: World, family: int) -> Predicate | None:
    del family
    reply = both(state(ESTABLISHED), FieldIn("ct direction", 8, (1,)), equals(Payload("tcp", "sport"), 443, When.START))
    return both(among(IIF, world.tunnels, When.START), reply)


PROPERTIES: tuple[Property, ...] = (
    Property(
        "policy",
        "nothing leaves on the underlay but what the policy allows",
        Way.OUTPUT,
        Sense.LEAK,
        _beyond_policy,
        "no allowance of the policy names such a packet",
    ),
    Property(
        "new-flow",
        "no new flow leaves on the underlay",
        Way.OUTPUT,
        Sense.LEAK,
        _shut(both(NEWLY, Not(DNS), Not(ANY_ICMP)), internet),
        "any program may open a connection past the tunnel",
    ),
    Property(
        "established",
        "no established flow goes on over the underlay",
        Way.OUTPUT,
        Sense.LEAK,
        _shut(both(state(ESTABLISHED), Not(ANY_ICMP)), internet),
        "a flow that was opened through the tunnel goes on in the clear when its route is lost",
    ),
    Property(
        "odd-state",
        "nothing leaves for being related, invalid or untracked",
        Way.OUTPUT,
        Sense.LEAK,
        _shut(both(state(RELATED, INVALID, UNTRACKED), Not(ANY_ICMP)), internet),
        "what conntrack does not call new is let through all the same",
    ),
    Property(
        "dns",
        "no name is looked up past the tunnel",
        Way.OUTPUT,
        Sense.LEAK,
        _shut(both(NEWLY, DNS), lambda world, family: Not(to_any((*endpoint_hosts(world), *OWN[family]), family))),
        "the resolver, and who is on the way to it, sees every name that is looked up",
    ),
    Property(
        "icmp",
        "no ICMP leaves on the underlay",
        Way.OUTPUT,
        Sense.LEAK,
        _shut(ANY_ICMP, lambda world, family: both(internet(world, family), Not(LINK_ICMP))),
        "a ping shows the real address, and carries whatever data one puts into it",
    ),
    Property(
        "lan",
        "nothing reaches the local network",
        Way.OUTPUT,
        Sense.NOTE,
        _shut(both(NEWLY, Not(DNS)), lambda world, family: both(local(world, family), Not(DHCP), Not(LINK_ICMP))),
        "who controls the local network's addresses (a hostile access point) receives what is sent there",
    ),
    Property(
        "endpoint-port",
        "no other port of the endpoint's host is reached",
        Way.OUTPUT,
        Sense.LEAK,
        _other_port,
        "whatever else listens on the server's address is reached in the clear",
    ),
    Property(
        "endpoint-program",
        "no program but the tunnel talks to the endpoint",
        Way.OUTPUT,
        Sense.NOTE,
        _other_program,
        "any program may send to the endpoint what it likes",
    ),
    Property(
        "exempt",
        "no user, group, mark or control group is exempt",
        Way.OUTPUT,
        Sense.NOTE,
        _exempt,
        "who has this mark or runs as this user is outside of the tunnel",
    ),
    Property(
        "named",
        "no address that the rules name is reached",
        Way.OUTPUT,
        Sense.NOTE,
        _named,
        "the rules name this address and let every program talk to it",
    ),
    Property(
        "forwarded",
        "nothing forwarded leaves on the underlay",
        Way.FORWARD,
        Sense.LEAK,
        _forwarded,
        "containers, virtual machines and routed clients go past the tunnel",
    ),
    Property(
        "from-tunnel",
        "nothing that comes out of the tunnel is sent on over the underlay",
        Way.FORWARD,
        Sense.NOTE,
        _from_tunnel,
        "who is behind the tunnel, such as a client of this machine's own VPN server, goes on in the clear",
    ),
    Property(
        "transit",
        "nothing enters a tunnel that carries another but that one's transport",
        Way.OUTPUT,
        Sense.LEAK,
        _into_transit,
        "the outer tunnel's server sees what the inner one was to hide",
    ),
    Property(
        "below-ip",
        "nothing sent below IP leaves on the underlay",
        Way.FRAME,
        Sense.NOTE,
        _frame,
        "a program with CAP_NET_RAW writes frames that no rule for IP sees",
        (4, 6, 0),
    ),
    Property("handshake-out", "the tunnel can be opened anew", Way.OUTPUT, Sense.NEED, _handshake),
    Property("handshake-in", "the endpoint's answer is let in", Way.INPUT, Sense.NEED, _answer),
    Property("loopback-out", "loopback works: out", Way.OUTPUT, Sense.NEED, _loopback_out),
    Property("loopback-in", "loopback works: in", Way.INPUT, Sense.NEED, _loopback_in),
    Property("tunnel-out", "the tunnel may be used", Way.OUTPUT, Sense.NEED, _tunnel_out),
    Property("tunnel-in", "replies come in through the tunnel", Way.INPUT, Sense.NEED, _tunnel_in),
)

# What a proof over rules can't speak of; said with every one.
ASSUMPTIONS: tuple[str, ...] = (
    "nobody with CAP_NET_ADMIN or root changes the rules, the routes or the tunnel",
    "without a policy: nobody with CAP_NET_RAW writes IP's header itself, of a fragment or with another machine's address",
    "what IPsec takes, where a rule asks for that, is encrypted and goes to the tunnel's server",
    "no rule that is gone has translated a connection that still stands",
    "AF_XDP sockets, tc and eBPF programs and offloaded flows pass no hook that a rule hangs on",
    "bridged guests, macvlan children and containers with a device of their own do not come through this machine's hooks",
    "nothing left before the rules were loaded, nor while another ruleset was being replaced by this one",
    "a packet that the rules send into a tunnel stays in it: what the tunnel's server does with it is not asked",
    "a device whose name begins with lo is loopback; a local address is reached by it",
    "no socket that is bound to an underlay device sends to an address of this machine: what asks for local addresses lets it out",
)

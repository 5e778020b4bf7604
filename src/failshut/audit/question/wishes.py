"""What makes a witness easy to read and to send."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from failshut.audit.netfilter.words import ESTABLISHED, ICMP, ICMPV6, INVALID, NEW, TCP, UDP, UNTRACKED
from failshut.audit.predicate import DeviceIs, FieldIn, Is, Not, Predicate, When, either, equals
from failshut.audit.question.packets import DNS, SOCKET_FIELDS, state
from failshut.audit.world import DADDR, OIF, SADDR, World, to_any
from failshut.audit.world.facts import same_protocol
from failshut.model.ruleset import Match, Op, Payload, Range

# Where no single machine listens: groups, loopback, everybody, "this" host.
_NOBODY = {
    4: tuple(ip_network(each) for each in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")),
    6: tuple(ip_network(each) for each in ("::/127", "ff00::/8", "fe80::/10")),
}
SYN, ACK = 0x02, 0x10
# IEEE 802's EtherType for local experiments.
_EXPERIMENTAL = 0x88B5


def wishes(world: World, family: int) -> tuple[Predicate, ...]:
    """Return what makes a witness easy to read and to send, the more important first."""
    host = "198.51.100.80" if family == 4 else "2001:db8:beef::80"
    own = "192.168.1.100" if family == 4 else "2001:db8:1::100"
    # Next to the machine where it may not be the internet; and groups that somebody listens to.
    groups = [ip_address(each) for each in ((), ("fe80::80", "ff02::fb"))[family == 6]]
    neighbour = "192.168.1.80" if family == 4 else "fd00::80"
    return (
        (
            *(equals(OIF, each) for each in world.underlay[:1]),
            *(equals(OIF, each, When.START) for each in world.underlay[:1]),
            FieldIn("later fragment", 1, (0,)),
            DeviceIs("via", ("",)),
            *(FieldIn(each, 32, (0,)) for each in SOCKET_FIELDS),
            FieldIn("mark", 32, (0,)),
            FieldIn("ct mark", 32, (0,)),
            FieldIn("socket", 1, (1,)),
            FieldIn("cgroup", 32, (0,)),
            FieldIn("skuid", 32, (world.uid,)),
            FieldIn("skgid", 32, (world.gid,)),
            FieldIn("skgid", 32, (world.gid, world.gid + 1)),
            FieldIn("ct direction", 8, (0,)),
            state(ESTABLISHED, NEW),
            state(ESTABLISHED, NEW, INVALID),
            Not(state(UNTRACKED)),
            either(Not(DNS), Is(Match(Payload("udp", "dport"), 53))),
            FieldIn("l4proto", 8, (TCP,)),
            FieldIn("l4proto", 8, (ICMP if family == 4 else ICMPV6, UDP)),
            Is(Match(Payload("tcp", "dport"), 443)),
            FieldIn("icmp type", 8, (8 if family == 4 else 128,)),
            equals(DADDR[family], ip_address(host)),
            # Nobody has translated it, if it may be so.
            equals(DADDR[family], ip_address(host), When.START),
            Is(Match(Payload("tcp", "dport"), 443), When.START),
            Not(to_any(_NOBODY[family], family)),
            equals(DADDR[family], ip_address(neighbour)),
            *(equals(DADDR[family], each) for each in groups),
            equals(SADDR[family], ip_address(own)),
            equals(SADDR[family], ip_address(own), When.START),
            Is(Match(Payload("th", "sport"), 40000)),
            Is(Match(Payload("th", "sport"), 40000), When.START),
            Is(Match(Payload("th", "sport"), Range(1024, 65535))),
            Is(Match(Payload("th", "dport"), 0, Op.NE)),
            FieldIn("hop limit", 8, (64,)),
            *(FieldIn("ip hdrlength", 4, (5,)) for _ in range(family == 4)),
            # None that is out of the ordinary: conntrack calls many of them invalid.
            FieldIn("tcp flags", 8, (0,)),
            FieldIn("tcp flags", 8, (SYN, ACK)),
            *([same_protocol()] if family == 6 else []),
        )
        if family
        else (*(equals(OIF, each) for each in world.underlay[:1]), FieldIn("ethertype", 16, (_EXPERIMENTAL,)))
    )

"""What is true of every packet that goes a way, whatever the rules: what conntrack, the sockets and the protocols make sure of."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import (
    ESTABLISHED,
    ICMP,
    ICMPV6,
    INVALID,
    NEW,
    RELATED,
    SOURCE_TRANSLATED,
    TARGET_TRANSLATED,
    TCP,
    UNTRACKED,
    WITH_PORTS,
)
from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When, among, both, compares, either, equals
from failshut.audit.world import DADDR, IIF, LOOPBACK, NEAR, OIF
from failshut.model.ruleset import Binary, BitOp, Ct, HeaderOption, Match, Meta, Op, Payload, Range, Scalar

# Numbers of linux/rtnetlink.h.
_LOCAL, _BROADCAST, _ANYCAST, _MULTICAST = 2, 3, 4, 5
_GROUPS: dict[int, tuple[Scalar, ...]] = {4: (ip_network("224.0.0.0/4"),), 6: (ip_network("ff00::/8"),)}
# The shortest header of each family, in bytes: less than that no packet has.
_HEADER = {4: 20, 6: 40}
# Flags and scope of a group are a digit each; scopes 0 and 1.
_OWN_GROUPS: tuple[Scalar, ...] = tuple(ip_network(f"ff{flags:x}0::/15") for flags in range(16))


def facts(way: Way, family: int) -> Predicate:
    """Return what is true of every packet that goes this way, whatever the rules: what conntrack and the sockets make sure of."""
    if way is Way.FRAME and not family:
        return both(Not(FieldIn("ethertype", 16, (0x0800, 0x86DD))), *_by_way(way))
    parts: list[Predicate] = [
        FieldIn("ct state", 32, (NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED)),
        FieldIn("ct direction", 8, (0, 1)),
        # The first packet of a connection opens it, in the original direction, and nobody has marked the connection yet.
        either(FieldIn("first", 1, (0,)), both(FieldIn("ct state", 32, (NEW, RELATED)), FieldIn("ct mark", 32, (0,)))),
        either(Not(FieldIn("ct state", 32, (NEW,))), FieldIn("ct direction", 8, (0,))),
    ]
    if family == 4:
        offset = Match(Binary(BitOp.AND, Payload("ip", "frag-off"), 0x1FFF), 0)
        parts.append(either(both(FieldIn("later fragment", 1, (0,)), Is(offset, When.START)), _later(offset)))
        parts.append(_header_is_long_enough())
    if family == 6:
        # Beside the upper protocol the next header may be an extension header's number.
        extensions = (0, 43, 44, 50, 51, 60, 135, 139, 140)
        parts.append(either(among(Payload("ip6", "nexthdr"), extensions, When.START), same_protocol()))
    if way is not Way.FRAME:
        # Whoever writes frames may write anything there.
        parts.append(FieldIn("ip version" if family == 4 else "ip6 version", 4, (family,)))
    if way in (Way.OUTPUT, Way.FORWARD):
        parts.append(either(equals(OIF, LOOPBACK), Not(_stays(family))))
        # Only what comes in is told apart by whom its frame was for.
        parts.append(FieldIn("pkttype", 8, (0,)))
    if way is Way.OUTPUT:
        parts += _kinds(family)
    parts += _icmp_states(family)
    parts += _by_way(way)
    return All(tuple(parts))


def long_enough(family: int) -> Predicate:
    """Return that a packet of IP is as long as its header. For rules that ask: a witness else says of its length nothing."""
    return compares(Meta("length"), Op.GE, _HEADER[family])


# FIN, SYN, RST and ACK are 1, 2, 4 and 16: of these a connection begins with SYN alone; or, where it was forgotten, with ACK alone.
_OPENING_FLAGS = tuple(each for each in range(256) if each & 0x17 in (0x02, 0x10))


def opening_flags() -> Predicate:
    """Return that what conntrack takes for a new TCP connection begins as one (nf_conntrack_proto_tcp.c). For rules that ask."""
    opens = (FieldIn("l4proto", 8, (TCP,)), FieldIn("ct state", 32, (NEW,)), FieldIn("first", 1, (1,)))
    return either(FieldIn("tcp flags", 8, _OPENING_FLAGS), Not(both(*opens)))


# The reply was seen, and the connection is assured (nf_conntrack_common.h).
_ANSWERED = 0x2 | 0x4
# As rules before any translation ask for it.
OWN_SOURCE = ("fib saddr type @output", "fib saddr type @postrouting")
# Who is handed a header of IP to send, or an address of another machine's, has got privileges.
_PRIVILEGED = either(FieldIn("socket", 1, (0,)), Not(FieldIn("socket transparent 0", 32, (0,))))


def from_own_address(field: str) -> Predicate:
    """Return that a program sends over IPv4 from an address of this machine's. For rules that ask.

    No route is found for a socket that was bound to another (ip_route_output_key_hash_rcu), unless it is a transparent one.
    """
    return either(_PRIVILEGED, FieldIn(field, 32, (_LOCAL,)))


def sent_whole() -> Predicate:
    """Return that a program's packet is no fragment: it becomes that past the last hook of IP (ip_finish_output)."""
    return either(_PRIVILEGED, FieldIn("later fragment", 1, (0,)))


def unanswered() -> Predicate:
    """Return that no reply was seen of a new connection, nor is it assured (nf_conntrack_core.c). For rules that ask."""
    return either(Not(FieldIn("ct state", 32, (NEW,))), Is(Match(Ct("status"), _ANSWERED, Op.NOT_IN), When.START))


def ends(family: int, never: int) -> Predicate:
    """Return what a connection's addresses and ports have to do with its packet's, as it comes: for rules that ask for the former.

    They are the packet's own in its direction, and the other way round in the other where no rule translates; `never` are the bits
    of the status that none sets. An ICMP error is about a connection, and has other addresses than that.
    """
    version = "ip" if family == 4 else "ip6"
    without_ports = Not(FieldIn("l4proto", 8, WITH_PORTS))
    pairs = (
        (f"{version} saddr", f"{version} daddr", Payload(version, "saddr"), Payload(version, "daddr"), Some()),
        ("proto-src", "proto-dst", Payload("th", "sport"), Payload("th", "dport"), without_ports),
    )
    # Fragments are put together before their connection is looked up (nf_defrag_ipv4.c).
    said: list[Predicate] = [FieldIn("later fragment", 1, (0,))]
    for source, target, sent_from, sent_to, lacks in pairs:
        for straight, way in enumerate(("original", "reply")):
            here, there = FieldIn("ct direction", 8, (straight,)), FieldIn("ct direction", 8, (1 - straight,))
            said += [either(lacks, there, _same(Ct(source, way), sent_from)), either(lacks, there, _same(Ct(target, way), sent_to))]
            # The source of the one way is the target of the other.
            first, second = (source, sent_to), (target, sent_from)
            for bit, (name, own) in zip((SOURCE_TRANSLATED, TARGET_TRANSLATED), (first, second)[:: 1 - 2 * straight], strict=True):
                said += [either(lacks, here, _same(Ct(name, way), own))] if never & bit else []
    untracked, error = Not(FieldIn("ct state", 32, (NEW, ESTABLISHED, RELATED))), FieldIn("l4proto", 8, (ICMP, ICMPV6))
    return either(untracked, both(FieldIn("ct state", 32, (RELATED,)), error), both(*said))


def _same(one: Ct, other: Payload) -> Predicate:
    return Is(Match(Binary(BitOp.XOR, one, other), 0), When.START)


# What opens a connection of ICMP or ICMPv6, and what answers it (nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c).
_QUERIES = {4: (8, 13, 15, 17), 6: (128, 139)}
_REPLIES = {4: (0, 14, 16, 18), 6: (129, 140)}


def _icmp_states(family: int) -> list[Predicate]:
    """Return which ICMP can be new or established; the other family's is neither."""
    own, other = (ICMP, ICMPV6) if family == 4 else (ICMPV6, ICMP)
    tracked = FieldIn("ct state", 32, (NEW, ESTABLISHED))
    query, reply = (FieldIn("icmp type", 8, each[family]) for each in (_QUERIES, _REPLIES))
    ways = (
        both(query, FieldIn("ct direction", 8, (0,))),
        both(reply, FieldIn("ct direction", 8, (1,)), FieldIn("ct state", 32, (ESTABLISHED,))),
    )
    return [
        either(Not(both(tracked, FieldIn("l4proto", 8, (own,)))), FieldIn("later fragment", 1, (1,)), *ways),
        Not(both(tracked, FieldIn("l4proto", 8, (other,)))),
    ]


def _kinds(family: int) -> list[Predicate]:
    """Return what an address says of its kind: groups have a range of their own, a link's own addresses aren't on the internet."""
    first = among(DADDR[family], _GROUPS[family], When.START)
    group = FieldIn("fib daddr type @output", 32, (_MULTICAST,))
    everyone = FieldIn("fib daddr type @output", 32, (_BROADCAST, _ANYCAST))
    near = among(DADDR[family], tuple(NEAR[family]), When.START)
    said: list[Predicate] = [either(both(group, first), both(Not(group), Not(first))), either(Not(everyone), near)]
    # IPv6 has no broadcast (nft_fib_ipv6.c, xt_addrtype.c).
    return said if family == 4 else [*said, Not(FieldIn("fib daddr type @output", 32, (_BROADCAST,)))]


def _stays(family: int) -> Predicate:
    """Return that no device but loopback sends such a packet: to 0.0.0.0, or to a group of a scope within the machine (RFC 4291).

    Source: ip_route_output_key_hash_rcu, ip6_finish_output2.
    """
    if family == 4:
        return equals(DADDR[4], ip_address("0.0.0.0"))
    scope = Binary(BitOp.AND, DADDR[6], 0xFF0E << 112)
    return Is(Match(scope, 0xFF00 << 112))


def _header_is_long_enough() -> Predicate:
    """Return that an IPv4 header has its five words, and more where there are options (RFC 791)."""
    length = Payload("ip", "hdrlength")
    options = (Is(Match(HeaderOption("ip", each), "missing"), When.START) for each in ("lsrr", "ssrr", "rr", "ra"))
    return either(Is(Match(length, Range(6, 15)), When.START), both(Is(Match(length, 5), When.START), *options))


def _later(offset: Match) -> Predicate:
    return both(FieldIn("later fragment", 1, (1,)), Not(Is(offset, When.START)))


def same_protocol() -> Predicate:
    """Return that the next header is the protocol that it was read as: said for those that rules name."""
    numbers = (1, 2, 6, 17, 33, 41, 47, 58, 89, 103, 112, 115, 132, 136)
    pairs = (both(FieldIn("ip6 nexthdr", 8, (each,)), FieldIn("l4proto", 8, (each,))) for each in numbers)
    others = both(Not(FieldIn("ip6 nexthdr", 8, numbers)), Not(FieldIn("l4proto", 8, numbers)))
    return either(*pairs, others)


def _by_way(way: Way) -> list[Predicate]:
    no_input, no_output, no_socket = DeviceIs("iifname", ("",)), DeviceIs("oifname", ("",)), FieldIn("socket", 1, (0,))
    match way:
        case Way.OUTPUT:
            return [
                Not(no_output),
                Not(DeviceIs("oifname rerouted", ("",))),
                # What a kernel tunnel sends comes from the tunnel's device, and no program's packet does.
                either(DeviceIs("via", ("",)), no_socket),
                # A group of the node's own scope, or of a reserved one, has no members elsewhere (RFC 4291 §2.7; ip6_output.c).
                either(Not(among(DADDR[6], _OWN_GROUPS)), equals(OIF, LOOPBACK)),
                # A local address is reached by loopback.
                either(
                    Not(FieldIn("fib daddr type @output", 32, (2,))),
                    equals(OIF, LOOPBACK, When.START),
                ),
            ]
        case Way.FORWARD:
            lo = among(IIF, (LOOPBACK,), When.START)
            return [Not(no_input), Not(no_output), no_socket, Not(lo), Not(equals(OIF, LOOPBACK, When.START))]
        case Way.INPUT:
            return [Not(no_input)]
        case Way.FRAME:
            return [Not(no_output)]

"""What a question takes for granted: which devices are tunnels, where the endpoints are, what the local network is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When, among, both, compares, either, equals
from failshut.audit.route import Way
from failshut.audit.words import (
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
from failshut.model.ruleset import (
    AnySet,
    Binary,
    BitOp,
    Ct,
    HeaderOption,
    Jump,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    Ruleset,
    Scalar,
    Socket,
)
from failshut.model.units import Endpoint, Prefix

LOOPBACK = "lo"
IIF, OIF = Meta("iifname"), Meta("oifname")
SADDR = {4: Payload("ip", "saddr"), 6: Payload("ip6", "saddr")}
DADDR = {4: Payload("ip", "daddr"), 6: Payload("ip6", "daddr")}

# Addresses that are not the internet (RFC 6890): this link, this site, this machine, groups.
NEAR: dict[int, tuple[Prefix, ...]] = {
    4: tuple(
        ip_network(each)
        for each in (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
            *("224.0.0.0/4", "240.0.0.0/4"),
        )
    ),
    6: tuple(ip_network(each) for each in ("::/127", "fc00::/7", "fe80::/10", "ff00::/8")),
}


# Numbers of linux/rtnetlink.h.
_BROADCAST, _ANYCAST, _MULTICAST = 3, 4, 5
_GROUPS: dict[int, tuple[Scalar, ...]] = {4: (ip_network("224.0.0.0/4"),), 6: (ip_network("ff00::/8"),)}

# Addresses of this machine alone: a program that is tied to a device can send there, and nobody answers.
OWN: dict[int, tuple[Prefix, ...]] = {4: (ip_network("127.0.0.0/8"),), 6: (ip_network("::/127"),)}


@dataclass(frozen=True, slots=True)
class World:
    """What the rules are judged against.

    `tunnels` are names as nft takes them (a last `*` is any ending). `named` are the addresses that the rules name and let packets
    out to: pinned exceptions of the ruleset's author. `allowed`, by family, is what a policy allows to leave on the underlay; with
    one the audit is strict: every other packet is a leak, whoever sent it.
    """

    tunnels: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    # Hosts that the rules open whole: VPN servers, by all that the rules say, and on which port nobody knows.
    servers: tuple[Prefix, ...] = ()
    lan: tuple[Prefix, ...] = ()
    named: tuple[Prefix, ...] = ()
    underlay: tuple[str, ...] = ("eth0",)
    # Bridges of this machine's own guests: nothing of theirs leads outside.
    inside: tuple[str, ...] = ()
    # But for those of them that have a port to the outside.
    uplinked: tuple[str, ...] = ()
    allowed: dict[int, Predicate] | None = None
    # Tunnels that carry another's transport and nothing else; by family, what that is.
    transit: tuple[str, ...] = ()
    carried: dict[int, Predicate] = field(default_factory=dict)
    # Who a program is that nothing was promised to: this user, and at these levels of the hierarchy in no group that has a name.
    uid: int = 1000
    gid: int = 1000
    # As what that user was said, where only its packets are asked about, and not what others send, nor what is forwarded.
    alone: str = ""
    levels: tuple[int, ...] = ()
    # The users, and after a colon the groups, of whom alone the rules refuse something: nobody else is held by them.
    confined: tuple[str, ...] = ()
    # In words, what tells their packets, where it is a control group or a mark.
    held: tuple[str, ...] = ()
    frames: Predicate = field(default_factory=Some)
    forwarded: Predicate = field(default_factory=Some)
    # Which of the fields above nobody said and no rule tells.
    assumed: tuple[str, ...] = ()

    @property
    def is_strict(self) -> bool:
        """Whether a policy says what may leave."""
        return self.allowed is not None


# The shortest header of each family, in bytes: less than that no packet has.
_HEADER = {4: 20, 6: 40}
# Flags and scope of a group are a digit each; scopes 0 and 1.
_OWN_GROUPS: tuple[Scalar, ...] = tuple(ip_network(f"ff{flags:x}0::/15") for flags in range(16))


def on_underlay(world: World) -> Predicate:
    """Return that the packet leaves on a device that is neither loopback nor a tunnel."""
    return either(among(OIF, world.uplinked), Not(among(OIF, (LOOPBACK, *world.tunnels, *world.inside))))


def to_any(prefixes: tuple[Prefix, ...], family: int) -> Predicate:
    """Return that the packet's last destination lies in one of these."""
    fitting: tuple[Scalar, ...] = tuple(each for each in prefixes if each.version == family)
    return among(DADDR[family], fitting)


def endpoint_hosts(world: World) -> tuple[Prefix, ...]:
    """Return the endpoints' and servers' addresses as prefixes."""
    return tuple(dict.fromkeys((*(ip_network(str(each.address)) for each in world.endpoints), *world.servers)))


def endpoint_words(world: World) -> tuple[str, ...]:
    """Return where the tunnels lead to, each in words; none when nobody knows."""
    return (*map(str, world.endpoints), *(f"{each.network_address} (any port)" for each in world.servers))


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


def patterns(ruleset: Ruleset, world: World) -> frozenset[str]:
    """Return every device name and pattern that the rules or the question tell apart."""
    found = {LOOPBACK, *world.tunnels, *world.underlay, *world.inside, *world.uplinked}
    for table in ruleset.tables:
        for chain in table.chains:
            if chain.base and chain.base.device:
                found.update(chain.base.device.split(","))
            for rule in chain.rules:
                for statement in rule.statements:
                    _names(statement, found)
        for each in table.sets:
            _keyed(each.key, each.elements, found)
        for entry in table.maps:
            _keyed(entry.key, entry.elements, found)
    return frozenset(each for each in found if each)


def group_levels(ruleset: Ruleset) -> tuple[int, ...]:
    """Return the levels of the hierarchy of control groups at which the rules tell programs apart."""
    rules = (rule for table in ruleset.tables for chain in table.chains for rule in chain.rules)
    found = {level for rule in rules for statement in rule.statements for level in _levels(statement)}
    return tuple(sorted(found))


def _levels(node: object) -> Iterator[int]:
    if isinstance(node, Socket):
        yield from (node.level,) if node.key == "cgroupv2" else ()
    elif isinstance(node, tuple):
        yield from (level for each in node for level in _levels(each))
    else:
        yield from (level for each in getattr(node, "__dataclass_fields__", ()) for level in _levels(getattr(node, each)))


def _keyed(key: tuple[str, ...], elements: object, found: set[str]) -> None:
    if "ifname" in key or "iface_index" in key:
        _strings(elements, found)


_NAME_KEYS = frozenset({"iifname", "oifname", "iif", "oif", "ibrname", "obrname", "sdifname"})


def _names(node: object, found: set[str]) -> None:
    """Collect the strings that stand beside a load of a device's name, however deep."""
    if _loads_name(node):
        _strings(node, found)


def _loads_name(node: object) -> bool:
    if isinstance(node, Meta):
        return node.key in _NAME_KEYS
    if isinstance(node, AnySet):
        # Constants, and as many as 100,000.
        return False
    if isinstance(node, tuple):
        return any(_loads_name(each) for each in node)
    return any(_loads_name(getattr(node, each)) for each in getattr(node, "__dataclass_fields__", ()))


def _strings(node: object, found: set[str]) -> None:
    if type(node) is str:
        if 0 < len(node.encode()) <= 16:
            found.add(node)
    elif isinstance(node, tuple):
        for each in node:
            _strings(each, found)
    # A chain may be called like a device.
    elif not isinstance(node, Meta | Jump):
        for each in getattr(node, "__dataclass_fields__", ()):
            _strings(getattr(node, each), found)

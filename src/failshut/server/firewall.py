"""A server's settings → its firewall, in the words of the lock's own rules: what comes in, what is forwarded, what is masqueraded.

It shuts what comes in and what is forwarded. What the server itself sends is not its subject: that is what `arm` is for. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from failshut.lower.link import LINK_LOCAL
from failshut.lower.rules import IIFNAME, OIFNAME, address_matches, any_of, between, is_, is_not, rule
from failshut.model.policy import Service
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Base,
    Chain,
    ChainType,
    Ct,
    Family,
    Fib,
    HeaderOption,
    Hook,
    Match,
    Meta,
    Nat,
    NatKind,
    Notrack,
    Op,
    Payload,
    Range,
    Reject,
    Rt,
    Rule,
    Ruleset,
    Table,
    Verdict,
    masked,
)
from failshut.model.units import Prefix, Protocol
from failshut.server.model import Server

NAME = "failshut-server"
_RAW, _FILTER, _SRCNAT = -300, 0, 100
_KNOWN = Match(Ct("state"), AnySet(("established", "related")), Op.IN)
# What no connection is known for is not masqueraded either: not as a stray segment, nor as a neighbour discovery that is forwarded.
_UNKNOWN = Match(Ct("state"), AnySet(("invalid", "untracked")), Op.IN)
_DROP = rule("shut", Verdict.DROP)
_SYN, _SYN_OR_RST = 0x02, 0x06
# Not the Internet (RFC 6890). A cloud's metadata service, which gives away its machine's credentials, is 169.254.169.254; the
# agent that Azure's machines ask is 168.63.129.16.
_PRIVATE4 = tuple(
    IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
    )
)
# Below the last line, what carries an IPv4 address that the network may unpack: a network's own NAT64, Teredo, 6to4.
_PRIVATE6 = tuple(
    IPv6Network(each)
    for each in (
        *("::/96", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        *("64:ff9b:1::/48", "2001::/32", "2002::/16"),
    )
)
# The Internet's NAT64 leads to every IPv4 address: of an IPv6-only machine's peers, this is all the IPv4 that they have.
_NAT64 = IPv6Address("64:ff9b::")
_TRANSLATED = tuple(IPv6Network((int(_NAT64) | int(each.network_address), 96 + each.prefixlen)) for each in _PRIVATE4)
PRIVATE: tuple[Prefix, ...] = (*_PRIVATE4, *_PRIVATE6, *_TRANSLATED)


def firewall(server: Server) -> Ruleset:
    """Return the tables of a server. Law: nothing new comes in or is forwarded but what its settings name."""
    chains = (
        Chain("own-received", tuple(_received(server)), Base(ChainType.FILTER, Hook.PREROUTING, _RAW, Verdict.ACCEPT)),
        Chain("own-sent", tuple(_sent(server)), Base(ChainType.FILTER, Hook.OUTPUT, _RAW, Verdict.ACCEPT)),
        Chain("input", tuple(_input(server)), Base(ChainType.FILTER, Hook.INPUT, _FILTER, Verdict.DROP)),
        Chain("forward", tuple(_forward(server)), Base(ChainType.FILTER, Hook.FORWARD, _FILTER, Verdict.DROP)),
        Chain("source-nat", tuple(_masquerade(server)), Base(ChainType.NAT, Hook.POSTROUTING, _SRCNAT, Verdict.ACCEPT)),
    )
    return Ruleset((Table(Family.INET, NAME, chains),))


def _received(server: Server) -> Iterator[Rule]:
    """Yield what keeps the machine's own ports out of the table of connections, so that no peer's entry lies over them.

    Where a peer is given such a port for its own connection to a victim, the victim's packets are that connection's replies, and go
    to the peer (port shadow, CVE-2021-3773). A masquerade by chance alone gives way to whoever tries every port.
    """
    here = is_(Fib(("daddr",), "type"), "local")
    for service in _own(server):
        yield rule("own-port", is_not(IIFNAME, str(server.interface)), here, _at("dport", service), Notrack())


def _sent(server: Server) -> Iterator[Rule]:
    """Yield the same for what those ports send: tracked, it would be given another port where a peer's entry has its own."""
    for service in _own(server):
        yield rule("own-port", is_not(OIFNAME, str(server.interface)), _at("sport", service), Notrack())


def _own(server: Server) -> tuple[Service, ...]:
    opened = (each for each in server.settings.opened if each.protocol is Protocol.UDP)
    return tuple(dict.fromkeys((Service(Protocol.UDP, server.port, server.port), *opened)))


def _input(server: Server) -> Iterator[Rule]:
    settings, from_peers = server.settings, is_(IIFNAME, str(server.interface))
    yield rule("loopback", is_(Meta("iif"), "lo"), Verdict.ACCEPT)
    yield rule("replies", _KNOWN, Verdict.ACCEPT)
    if settings.ssh:
        yield rule("ssh", is_(Payload("tcp", "dport"), any_of(int(each) for each in settings.ssh)), Verdict.ACCEPT)
    yield rule("wireguard", is_(Payload("udp", "dport"), int(server.port)), Verdict.ACCEPT)
    for service in settings.opened:
        yield rule("open", _at("dport", service), Verdict.ACCEPT)
    for service in settings.serve:
        for own in address_matches("daddr", (ip_network(each.ip) for each in server.addresses)):
            yield rule("serve", from_peers, own, _at("dport", service), Verdict.ACCEPT)
    # What is said of the own ports' packets is related to no connection that is known.
    yield rule("errors", is_(Payload("icmp", "type"), "destination-unreachable"), Verdict.ACCEPT)
    yield rule("errors", is_(Payload("icmpv6", "type"), "packet-too-big"), Verdict.ACCEPT)
    yield rule("ping", is_(Payload("icmp", "type"), "echo-request"), Verdict.ACCEPT)
    yield rule("ping", is_(Payload("icmpv6", "type"), "echo-request"), Verdict.ACCEPT)
    # Refused with a word: a peer that asks for what it may not have need not wait.
    yield rule("peers", from_peers, Reject("icmpx", "admin-prohibited"))
    yield from _link()
    yield _DROP


def _link() -> Iterator[Rule]:
    """Yield what a machine needs to have an address and neighbours."""
    received = ("nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert")
    of_the_link = is_(Payload("ip6", "hoplimit"), 255)
    yield rule("ndp", is_(Payload("icmpv6", "type"), AnySet(received)), of_the_link, Verdict.ACCEPT)
    yield rule("mld", is_(Payload("icmpv6", "type"), "mld-listener-query"), Verdict.ACCEPT)
    yield rule("dhcp", is_(Payload("udp", "sport"), 67), is_(Payload("udp", "dport"), 68), Verdict.ACCEPT)
    link_local = is_(Payload("ip6", "saddr"), LINK_LOCAL)
    yield rule("dhcp", link_local, is_(Payload("udp", "sport"), 547), is_(Payload("udp", "dport"), 546), Verdict.ACCEPT)


def _at(end: str, service: Service) -> Match:
    low, high = int(service.low), int(service.high)
    return is_(Payload(str(service.protocol), end), low if low == high else Range(low, high))


def _forward(server: Server) -> Iterator[Rule]:
    settings, name = server.settings, str(server.interface)
    from_peers, to_peers = is_(IIFNAME, name), is_(OIFNAME, name)
    # The tunnel's packets are larger than what they carry, and who filters ICMP learns it from nobody else.
    segment = Assign(HeaderOption("tcp", "maxseg", "size"), Rt("mtu"))
    for side in (from_peers, to_peers):
        yield rule("segment-size", side, is_(masked(Payload("tcp", "flags"), _SYN_OR_RST), _SYN), segment)
    yield rule("replies", _KNOWN, Verdict.ACCEPT)
    # From peers alone: what others forward, and perhaps don't track, is theirs.
    yield rule("unknown", from_peers, _UNKNOWN, Verdict.DROP)
    for version in settings.others:
        yield rule(
            "forward-others", is_(Meta("nfproto"), f"ipv{version}"), is_not(IIFNAME, name), is_not(OIFNAME, name), Verdict.ACCEPT
        )
    if settings.talk:
        yield rule("peers-talk", from_peers, to_peers, Verdict.ACCEPT)
    yield rule("peers-apart", from_peers, to_peers, Reject("icmpx", "admin-prohibited"))
    for there in address_matches("daddr", settings.reach):
        yield rule("reach", from_peers, there, Verdict.ACCEPT)
    for ends in between(settings.reach, settings.sites):
        # Not who calls himself one of them, at an interface that they are not behind.
        yield rule("site", is_not(IIFNAME, name), to_peers, *ends, is_(Fib(("saddr", "iif"), "oif"), "exists"), Verdict.ACCEPT)
    for there in address_matches("daddr", PRIVATE):
        yield rule("not-the-internet", from_peers, there, Reject("icmpx", "admin-prohibited"))
    if settings.internet:
        for own in address_matches("saddr", server.networks):
            yield rule("internet", from_peers, own, Verdict.ACCEPT)
    yield rule("peers", from_peers, Reject("icmpx", "admin-prohibited"))
    yield _DROP


def _masquerade(server: Server) -> Iterator[Rule]:
    elsewhere = is_not(OIFNAME, str(server.interface))
    # By chance, so that a peer does not take at once the port by which another's connection is answered; it can still try them all.
    # The machine's own ports are not held by this, but by `_received`.
    masquerade = Nat(NatKind.MASQUERADE, flags=frozenset({"fully-random"}))
    for own in address_matches("saddr", server.networks):
        yield rule("masquerade", own, elsewhere, masquerade)

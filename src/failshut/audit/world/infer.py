"""Tunnels, endpoints and the local network, guessed from a foreign ruleset's own rules. Whoever knows better says it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from failshut.audit.netfilter.route import map_elements
from failshut.audit.world import DADDR, LOOPBACK, NEAR, World
from failshut.audit.world.told_apart import group_levels, patterns
from failshut.model.ruleset import (
    AnySet,
    CatchAll,
    Concat,
    Ct,
    Fib,
    Hook,
    Jump,
    Left,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    Reject,
    Rule,
    Ruleset,
    SetRef,
    Socket,
    Statement,
    Table,
    Tuple,
    Verdict,
    VerdictMap,
)
from failshut.model.units import Endpoint, Port, Prefix, Protocol

_TUNNEL = re.compile(
    r"(wg|tun|tap|ppp|ipsec|vti|xfrm|utun|tailscale|proton|pvpn|nordlynx|nordtun|mullvad|wgivpn|ivpn|azirevpn|airvpn|zt|nebula|vpn|CloudflareWARP)",
)
# What leads outside, by names of systemd, of older machines, routers and phones.
_UNDERLAY = re.compile(r"(eth|en|wl|ww|usb|bond|team|wan|pppoe|dsl|rmnet|em\d|p\d+p\d)")
_NO_TUNNEL = re.compile(rf"lo\*?$|{_UNDERLAY.pattern}|lan|docker|podman|cni|br|virbr|veth|vif|vnet|lxc|lxd|incus")
# Bridges that engines of containers and guests make for their own: what leads outside from there is forwarded.
_INSIDE = re.compile(r"(?:docker|podman|cni-podman|virbr|lxcbr|lxdbr|incusbr)\d*\*?|docker_gwbridge|br-[0-9a-f]{12}")
# Where VPN servers usually listen: WireGuard, OpenVPN, IKE, and what providers add.
_VPN_PORTS = frozenset({51820, 1194, 1195, 1196, 1197, 1198, 1301, 1302, 500, 4500, 1637, 51821, 41641})
# Where what is no VPN listens: resolvers, also encrypted ones and those of the link, and clocks.
_OF_SERVICES = frozenset({53, 123, 853, 5353, 5355})
# Devices of PPP are an uplink as often as a tunnel: of a provider's line, a mobile modem. Of PPPoE they are never one.
_EITHER = re.compile(r"ppp")
_BRIDGE = re.compile(r"br\d*$")
# A prefix of more hosts than this is a network, not a server that the rules pin.
_PINNED = {4: 16, 6: 48}
# A range of no more ports than these is as many endpoints.
_FEW = 16
_OF_ADDRESSES = frozenset(DADDR.values())
# What a rule may ask beside where a packet goes, and still be about everything that goes there.
_BESIDE_ADDRESSES = frozenset(
    {*map(Meta, ("oifname", "oif", "nfproto", "mark", "skuid", "skgid")), Ct("state"), Fib(("daddr",), "type")}
)


def infer(ruleset: Ruleset) -> World:
    """Return the world that the rules seem to assume."""
    names = patterns(ruleset, World(underlay=()))
    tunnels = _tunnels(names, set(_only_way_out(ruleset)))
    underlay = tuple(sorted(each for each in names if _UNDERLAY.match(each) and not each.endswith("*")))
    endpoints: dict[Endpoint, None] = {}
    whole: dict[Prefix, None] = {}
    lan: dict[Prefix, None] = {}
    named: dict[Prefix, None] = {}
    for rule in _accepting(ruleset):
        hosts = list(_destinations(rule))
        ports = set(_ports(rule))
        for host in hosts:
            single = host.prefixlen == host.max_prefixlen
            near = any(host.version == each.version and host.subnet_of(each) for each in NEAR[host.version])  # type: ignore[arg-type]
            if near and (host.is_multicast or host.is_loopback or host.is_link_local):
                continue
            if near and not single:
                lan[host] = None
            elif near or host.prefixlen >= _PINNED[host.version]:
                found = _endpoints(rule, host, ports, usual=near) if single else ()
                endpoints.update((each, None) for each in found)
                if not near:
                    named[host] = None
                    whole |= {host: None} if single and _asks_for_host_alone(rule) else {}
    for port in _spared_ports(ruleset):
        # What refuses the server's other ports, beside what spares the server.
        endpoints.update((each, None) for host in whole for each in _endpoints(port, host, set(_ports(port)), usual=False))
    confined, others = _confined(ruleset)
    return World(
        tunnels or ("wg0", "tun0"),
        tuple(endpoints),
        # Beside an endpoint, a host that is open whole is another's: the author's exception.
        () if endpoints else tuple(whole),
        tuple(lan),
        tuple(named),
        underlay or ("eth0",),
        levels=group_levels(ruleset),
        confined=() if others else confined,
        inside=tuple(sorted(filter(_INSIDE.fullmatch, names))),
        held=(*(f"of {sender_words(each)}" for each in confined), *others) if others else (),
        assumed=() if tunnels else ("tunnels",),
    )


def _tunnels(names: frozenset[str], only: set[str]) -> tuple[str, ...]:
    """Return the devices with a tunnel's name; without one, those that are the only way out."""
    named = {each for each in names if _TUNNEL.match(each) and not _BRIDGE.search(each) and not _UNDERLAY.match(each)}
    sure = {each for each in named if not _EITHER.match(each) or each in only}
    return tuple(sorted(sure or named or only))


def _asks_for_host_alone(rule: Rule) -> bool:
    """Whether a rule lets everything out to an address, by whichever device."""
    asked = {each.left for each in rule.statements if isinstance(each, Match)}
    passes = Verdict.ACCEPT in rule.statements or Verdict.RETURN in rule.statements
    return passes and asked <= {Payload("ip", "daddr"), Payload("ip6", "daddr"), Meta("oifname"), Meta("oif"), Meta("nfproto")}


def _only_way_out(ruleset: Ruleset) -> Iterator[str]:
    """Yield the devices that everything may leave by, or nothing but by them, whatever they are called."""
    for rule in _rules(ruleset):
        matches = [each for each in rule.statements if isinstance(each, Match)]
        device = next((each for each in matches if each.left == Meta("oifname")), None)
        accepts = len(matches) == 1 and (Verdict.ACCEPT in rule.statements or Verdict.RETURN in rule.statements)
        refuses = any(map(_refuses, rule.statements))
        if device and ((accepts and device.op is Op.EQ) or (refuses and device.op is Op.NE)):
            said = device.right.elements if isinstance(device.right, AnySet) else (device.right,)
            names = [each for each in said if isinstance(each, str)]
            # What stands in one set with an uplink is another one.
            yield from (each for each in names if not _NO_TUNNEL.match(each) and not any(map(_UNDERLAY.match, names)))


def _confined(ruleset: Ruleset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the users and `:groups` of whom alone something is refused, and in words what else alone is refused.

    Both are empty where anybody else's packets are refused, too.
    """
    chains = [(table, each) for table in ruleset.tables for each in table.chains if not each.base or each.base.hook in _OUT]
    if any(chain.base and chain.base.policy is Verdict.DROP for _, chain in chains):
        return (), ()
    found: dict[str, None] = {}
    others: dict[str, None] = {}
    rules = (made for table, chain in chains for each in chain.rules for made in _resolved(table, each))
    for rule in (each for each in rules if any(map(_refuses, each.statements))):
        senders = [f"{sign}{each}" for sign, key in (("", "skuid"), (":", "skgid")) for each in _values(rule, Meta(key))]
        if not senders and not (words := tuple(_told_apart(rule))):
            return (), ()
        found |= dict.fromkeys(senders)
        others |= {} if senders else dict.fromkeys(words)
    return tuple(found), tuple(others)


def _told_apart(rule: Rule) -> Iterator[str]:
    """Yield in words whose packets a rule is about, where it tells them by a control group or a mark."""
    for each in rule.statements:
        if isinstance(each, Match) and each.op is Op.EQ:
            values = each.right.elements if isinstance(each.right, AnySet) else (each.right,)
            kind = OF_GROUP if isinstance(each.left, Socket) and each.left.key == "cgroupv2" else _TELLING.get(each.left, "")
            # No mark is what every program has that sets none.
            told = (one for one in values if kind and one != 0)
            yield from (f"{kind} {one:#x}" if isinstance(one, int) else f"{kind} {one}" for one in told)


OF_GROUP = "of control group"
_TELLING: dict[Left, str] = {Meta("cgroup"): OF_GROUP, Meta("mark"): "with mark"}


def sender_words(said: str) -> str:
    """Return a user, a user and its group, or a `:group` in words."""
    user, _, group = said.partition(":")
    return " ".join((*((f"user {user}",) if user else ()), *((f"group {group}",) if group else ())))


_OUT = (Hook.OUTPUT, Hook.POSTROUTING)


def _refuses(statement: Statement) -> bool:
    return statement is Verdict.DROP or isinstance(statement, Reject)


def _rules(ruleset: Ruleset) -> Iterator[Rule]:
    """Yield every rule that may judge what leaves, with the sets that it names."""
    for table in ruleset.tables:
        for chain in table.chains:
            if chain.base and chain.base.hook in (Hook.INPUT, Hook.PREROUTING, Hook.INGRESS):
                continue
            for rule in chain.rules:
                yield from _resolved(table, rule)


def _accepting(ruleset: Ruleset) -> Iterator[Rule]:
    """Yield the rules that let something out, or out of a chain that refuses the rest."""
    lets = (Verdict.ACCEPT, Verdict.RETURN)
    for rule in _rules(ruleset):
        if any(one in lets or isinstance(one, Jump) for one in rule.statements):
            yield rule
        elif any(map(_refuses, rule.statements)):
            yield from _spared(rule)


def _spared(rule: Rule) -> Iterator[Rule]:
    """Yield a rule that accepts what one that refuses everything else leaves alone: of `! -d SERVER -j DROP`, the server."""
    matches = [each for each in rule.statements if isinstance(each, Match)]
    if all(isinstance(each.left, Meta | Ct | Fib | Payload) and each.left in _OF_ADDRESSES | _BESIDE_ADDRESSES for each in matches):
        for each in matches:
            if each.left in _OF_ADDRESSES and each.op is Op.NE:
                yield Rule((Match(each.left, each.right), Verdict.ACCEPT))


def _spared_ports(ruleset: Ruleset) -> Iterator[Rule]:
    """Yield for each rule that refuses all ports but one of a protocol's, wherever to, a rule that accepts that one."""
    for rule in _rules(ruleset):
        matches = [each for each in rule.statements if isinstance(each, Match)]
        asked = [each for each in matches if each.left not in _OF_ADDRESSES | _BESIDE_ADDRESSES | {Meta("l4proto")}]
        if any(map(_refuses, rule.statements)) and [(each.op, getattr(each.left, "field", "")) for each in asked] == [
            (Op.NE, "dport")
        ]:
            protocol = [each for each in matches if each.left == Meta("l4proto")]
            yield Rule((*protocol, *(Match(each.left, each.right) for each in asked), Verdict.ACCEPT))


def _resolved(table: Table, rule: Rule) -> Iterator[Rule]:
    """Yield the rule with named sets replaced by what is in them; one for each element of a concatenation or of a verdict map."""
    contents = {each.name: each.elements for each in table.sets}
    out: list[Statement] = []
    for each in rule.statements:
        if isinstance(each, Match) and isinstance(each.right, SetRef) and contents.get(each.right.name):
            out.append(Match(each.left, AnySet(contents[each.right.name] or ()), each.op))
        else:
            out.append(each)
    yield from _each(table, tuple(out))


def _each(table: Table, statements: tuple[Statement, ...]) -> Iterator[Rule]:
    """Yield a rule for each element of its first concatenation or verdict map; itself without one."""
    for at, each in enumerate(statements):
        before, after = statements[:at], statements[at + 1 :]
        if isinstance(each, VerdictMap):
            entries = map_elements(table, each.map) or ()
            yield from (Rule((*before, *_equal(each.key, key), verdict)) for key, verdict in entries)  # type: ignore[arg-type] # refused by _equal
            return
        if isinstance(each, Match) and isinstance(each.left, Concat) and each.op is Op.EQ:
            elements = each.right.elements if isinstance(each.right, AnySet) else (each.right,)
            yield from (Rule((*before, *_equal(each.left, element), *after)) for element in elements)
            return
    yield Rule(statements)


def _equal(key: object, value: object) -> tuple[Match, ...]:
    """Return that each part of a key is its part of an element."""
    if isinstance(key, Concat) and isinstance(value, Tuple):
        pairs = zip(key.parts, value.parts, strict=False)
        return tuple(Match(left, right) for left, right in pairs if not isinstance(left, int))
    return () if isinstance(key, Concat | CatchAll) or isinstance(value, CatchAll) else (Match(key, value),)  # type: ignore[arg-type] # as the map had it


def _values(rule: Rule, *lefts: Left) -> Iterator[object]:
    for each in rule.statements:
        if isinstance(each, Match) and each.op is Op.EQ and each.left in lefts:
            yield from each.right.elements if isinstance(each.right, AnySet) else (each.right,)


def _destinations(rule: Rule) -> Iterator[Prefix]:
    # Where a connection was opened to is where it leads.
    opened = (Ct("ip daddr", "original"), Ct("ip6 daddr", "original"))
    for value in _values(rule, Payload("ip", "daddr"), Payload("ip6", "daddr"), *opened):
        if isinstance(value, IPv4Address | IPv6Address):
            yield ip_network(str(value))
        elif isinstance(value, IPv4Network | IPv6Network):
            yield value


def _ports(rule: Rule) -> Iterator[tuple[str, int]]:
    said = next((each.right for each in rule.statements if isinstance(each, Match) and each.left == Meta("l4proto")), "")
    for protocol in ("udp", "tcp", "th"):
        opened = (Ct("proto-dst", "original"),) if protocol == "th" else ()
        for value in _values(rule, Payload(protocol, "dport"), *opened):
            protocol = str(said) if protocol == "th" and said in ("tcp", "udp") else protocol  # noqa: PLW2901 - what `th` is
            if isinstance(value, int):
                yield protocol, value
            elif isinstance(value, Range) and isinstance(value.low, int) and isinstance(value.high, int):
                few = value.high - value.low < _FEW
                yield from ((protocol, each) for each in range(value.low, value.high + 1 if few else value.low + 1))


def _endpoints(rule: Rule, host: Prefix, ports: set[tuple[str, int]], *, usual: bool) -> Iterator[Endpoint]:
    """Yield the endpoints that a rule pins: an address with a port that VPN servers have, or one marked as a tunnel's own.

    With `usual` no other port will do: so it is near the machine, where other services are.
    """
    marked = any(isinstance(each, Match) and each.left == Meta("mark") for each in rule.statements)
    for protocol, port in sorted(ports):
        if port and (port in _VPN_PORTS or marked or (not usual and protocol == "udp" and port not in _OF_SERVICES)):
            yield Endpoint(host.network_address, Port(port), Protocol.TCP if protocol == "tcp" else Protocol.UDP)


def is_tunnel(name: str) -> bool:
    """Whether a device's name is one that VPN programs give."""
    return name != LOOPBACK and _TUNNEL.match(name) is not None

"""The `inet` and `arp` tables: the choke point and what leads to it (docs/security.md)."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.answers import kernel_answer_rules
from failshut.lower.destinations import outbound_rules, source_rules
from failshut.lower.forwarding import (
    borrowed_source_rules,
    bridge_spoof_rules,
    client_rules,
    forward_masquerade_rules,
    forward_rules,
    from_bridge_rules,
    site_masquerade_rules,
    site_rules,
    to_bridge_rules,
)
from failshut.lower.lan import lan_rules, multicast_input_rules, on_link_rules
from failshut.lower.ledger import COUNTERS, blocked_rules, forwarded_rules, ledger_sets
from failshut.lower.link import LINK_LOCAL, link_rules
from failshut.lower.needs import asks_names, tracks
from failshut.lower.outside import (
    outside_chains,
    outside_masquerade_rules,
    outside_prefix_chains,
    outside_prefixes,
    outside_return_rules,
    outside_rules,
    outside_underlay_rules,
    timed_underlay_chain,
    zone_rules,
)
from failshut.lower.prefixes import Found
from failshut.lower.rules import IIFNAME, L4PROTO, META_MARK, OIFNAME, any_of, is_, is_not, rule
from failshut.lower.services import (
    arrival_rules,
    arrived_rules,
    departure_rules,
    input_rules,
    reply_rules,
    reroute_rules,
    session_rules,
    stray_rules,
)
from failshut.lower.sets import timed_sets
from failshut.lower.tailscale import (
    marked,
    tailnet_address_rules,
    tailscale_arrival_rules,
    tailscale_input_rules,
    tailscale_rules,
)
from failshut.lower.transport import (
    carrying_rules,
    first_transport_rules,
    mark_of,
    to_transport_rules,
    transit_rules,
    transport_chains,
    transport_input_rules,
)
from failshut.model.host import HostFacts
from failshut.model.lock import LOCK_NAME
from failshut.model.policy import Policy
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Base,
    Chain,
    ChainType,
    Ct,
    Family,
    Fib,
    Hook,
    Jump,
    Match,
    Meta,
    Op,
    Payload,
    Reject,
    Right,
    Rule,
    Table,
    Verdict,
)
from failshut.model.units import Address, InterfaceAddress

# The last priority before the kernel confirms the connection (INT_MAX): after every re-route and after SNAT.
LAST = 2147483646
_RAW, _MANGLE, _FILTER, _SRCNAT = -300, -150, 0, 100
# Before fragments are put together (-400): a part from elsewhere would wait for the rest of a datagram, or be answered.
_FRAGMENTS = -450
# wg-quick's chains stand at priority mangle and write both marks: arrivals are noted after them, departures cleared before them.
_AFTER_MANGLE, _BEFORE_MANGLE = _MANGLE + 1, _MANGLE - 1

LOOPBACK_OUT = rule("loopback", is_(Meta("oif"), "lo"), Verdict.ACCEPT)
LOOPBACK_IN = rule("loopback", is_(Meta("iif"), "lo"), Verdict.ACCEPT)
# Never only the policy: a base chain that is being replaced runs with policy accept until the transaction ends (3,339 packets
# in 3,000 reloads, docs/adr/0001).
_TERMINAL_DROP = rule("shut", Verdict.DROP)


def inet_table(policy: Policy, facts: HostFacts) -> Table:
    """Return the table that every IP packet of this machine passes."""
    prefixes = outside_prefixes(policy)
    chains = (
        *_prerouting(policy, facts),
        Chain("input", tuple(_input(policy, facts)), _base(Hook.INPUT, _FILTER, Verdict.DROP)),
        Chain("forward", (*forward_rules(policy, facts), _TERMINAL_DROP), _base(Hook.FORWARD, _FILTER, Verdict.DROP)),
        *_zone(policy),
        *outside_chains(policy, facts),
        _output(policy, facts),
        *_masquerade(policy, facts),
        Chain("postrouting", tuple(_postrouting(policy, facts)), _base(Hook.POSTROUTING, LAST, Verdict.DROP)),
        *_departure(policy, facts),
        *_transit(policy, facts),
        *transport_chains(policy, facts),
        Chain("underlay", tuple(_underlay(policy, facts, prefixes))),
        *timed_underlay_chain(facts),
        *outside_prefix_chains(prefixes),
        Chain("allowed", (rule("stamp", Assign(META_MARK, facts.stamp), Verdict.ACCEPT),)),
        Chain("allowed-on-link", tuple(on_link_rules(facts))),
        Chain("count-blocked", tuple(blocked_rules(policy))),
        Chain("count-forwarded", tuple(forwarded_rules(policy))),
    )
    return Table(Family.INET, LOCK_NAME, chains, (*ledger_sets(), *timed_sets(policy, facts)), COUNTERS)


def arp_table(policy: Policy, facts: HostFacts) -> Table | None:
    """Return the table that keeps the host from answering ARP for a tunnel's address (X41 MLLVD-CR-24-03), None without IPv4.

    A sysctl (arp_ignore=2) would do as well, but nothing puts it back for an interface that appears later.
    """
    own = [each for each in tunnel_addresses(policy, facts) if each.version == 4]
    if not own:
        return None
    refuse = rule("tunnel-address", is_(Payload("arp", "saddr ip"), any_of(own)), Verdict.DROP)
    return Table(Family.ARP, LOCK_NAME, (Chain("output", (refuse,), _base(Hook.OUTPUT, _FILTER, Verdict.ACCEPT)),))


def tunnel_addresses(policy: Policy, facts: HostFacts) -> tuple[Address, ...]:
    """Return the tunnels' own addresses: the config's, and those that the running interface has besides."""
    declared = [each for tunnel in policy.tunnels for each in tunnel.addresses]
    live: list[InterfaceAddress] = []
    for interface in policy.interfaces:
        running = facts.tunnels.get(interface)
        # fe80:: is of every interface: refusing it elsewhere would end neighbour discovery.
        live += [each for each in (running.addresses if running else ()) if not each.ip.is_link_local]
    return tuple(dict.fromkeys(each.ip for each in (*declared, *live)))


def _base(hook: Hook, priority: int, policy: Verdict, kind: ChainType = ChainType.FILTER) -> Base:
    return Base(kind, hook, priority, policy)


def _tunnels(policy: Policy) -> Right:
    return any_of(str(each) for each in policy.interfaces)


def _open_tunnels(policy: Policy) -> Right:
    return any_of(str(each) for each in policy.open_interfaces)


def _masquerade(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    rules = (
        *site_masquerade_rules(policy),
        *outside_masquerade_rules(policy, facts),
        *forward_masquerade_rules(policy, facts),
    )
    if rules:
        yield Chain("source-nat", rules, _base(Hook.POSTROUTING, _SRCNAT, Verdict.ACCEPT, ChainType.NAT))


def _transit(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    if policy.transit:
        refused = (rule("blocked", Jump("count-blocked")), _TERMINAL_DROP)
        yield Chain("transit", (*transit_rules(policy, facts), *refused))


def _prerouting(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    # The kernel hands the machine a copy of each multicast packet that it sends: by its mark any program could read the stamp.
    secret = rule("stamp", is_(META_MARK, facts.stamp), Assign(META_MARK, 0))
    spoof = (secret, *_spoof_rules(policy, facts), *bridge_spoof_rules(policy, facts), *borrowed_source_rules(policy))
    yield Chain("prerouting", spoof, _base(Hook.PREROUTING, _FRAGMENTS, Verdict.ACCEPT))
    arrival = (*outside_return_rules(policy, facts), *tailscale_arrival_rules(policy), *arrival_rules(policy, facts))
    if arrival:
        yield Chain("arrival", arrival, _base(Hook.PREROUTING, _AFTER_MANGLE, Verdict.ACCEPT))
    if policy.inbound and facts.underlay:
        yield Chain("arrived", tuple(arrived_rules(policy, facts)))


def _spoof_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Nobody but the tunnel may talk to the tunnel's address (CVE-2019-14899)."""
    elsewhere = is_not(IIFNAME, AnySet(("lo", *(str(each) for each in policy.interfaces))))
    for version, family in ((4, "ip"), (6, "ip6")):
        own = [each for each in tunnel_addresses(policy, facts) if each.version == version]
        if own:
            from_outside = is_not(Fib(("saddr",), "type"), "local")
            yield rule("tunnel-address", elsewhere, is_(Payload(family, "daddr"), any_of(own)), from_outside, Verdict.DROP)
    yield from tailnet_address_rules(policy)


def _input(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    yield LOOPBACK_IN
    # The server is no router of this machine's: its routes and prefixes would draw what is for the LAN into the tunnel.
    routers = is_(Payload("icmpv6", "type"), AnySet(("nd-router-advert", "nd-redirect")))
    yield rule("tunnel-router", routers, is_(IIFNAME, _tunnels(policy)), Verdict.DROP)
    yield rule("tunnel", is_(IIFNAME, _tunnels(policy)), Verdict.ACCEPT)
    if tracks(policy, facts):
        yield rule("replies", Match(Ct("state"), AnySet(("established", "related")), Op.IN), Verdict.ACCEPT)
    yield from transport_input_rules(policy, facts)
    yield from tailscale_input_rules(policy)
    yield from from_bridge_rules(policy, facts)
    yield from input_rules(policy)
    if policy.dhcp:
        yield rule("allow:dhcp", is_(Payload("udp", "sport"), 67), is_(Payload("udp", "dport"), 68), Verdict.ACCEPT)
        yield rule(
            "allow:dhcp",
            is_(Payload("ip6", "saddr"), LINK_LOCAL),
            is_(Payload("udp", "sport"), 547),
            is_(Payload("udp", "dport"), 546),
            Verdict.ACCEPT,
        )
    if policy.ndp:
        received = ("nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert")
        hop_limit = is_(Payload("ip6", "hoplimit"), 255)
        yield rule("allow:ndp", is_(Payload("icmpv6", "type"), AnySet(received)), hop_limit, Verdict.ACCEPT)
        yield rule("allow:mld", is_(Payload("icmpv6", "type"), "mld-listener-query"), Verdict.ACCEPT)
    yield from multicast_input_rules(policy)
    yield _TERMINAL_DROP


def _zone(policy: Policy) -> Iterator[Chain]:
    rules = tuple(zone_rules(policy))
    if rules:
        yield Chain("outside-zone", rules, _base(Hook.OUTPUT, _RAW, Verdict.ACCEPT))


def _departure(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    rules = tuple(departure_rules(policy, facts))
    if rules:
        yield Chain("departure", rules, _base(Hook.POSTROUTING, _BEFORE_MANGLE, Verdict.ACCEPT))


def _output(policy: Policy, facts: HostFacts) -> Chain:
    """Return the chain that routes anew, and refuses early: in one, for each that hangs on a hook costs every packet."""
    rerouting = tuple(rerouting_rules(policy, facts))
    kind = ChainType.ROUTE if rerouting else ChainType.FILTER
    # In the order of how much is sent: the transport, the tunnel. Each rule before them costs them 1 to 3 %.
    rules = (*carrying_rules(policy, facts), *rerouting, *refusing_rules(policy, facts))
    return Chain("output", rules, _base(Hook.OUTPUT, LAST, Verdict.ACCEPT, kind))


def rerouting_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules at output that write a mark by which the packet is routed anew, once it has left the chain."""
    yield from reroute_rules(policy, facts)
    yield from outside_rules(policy, facts)


def refusing_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules at output that refuse early, so that programs fail fast; the choke point decides.

    A packet whose source is not of its interface belongs to a flow of a fallen tunnel: it is dropped without a word, so that the
    flow goes on when the tunnel is back.
    """
    yield from stray_rules(policy)
    # Before the kernel's answers, which are neither: what nearly every packet is.
    for protocol in ("udp", "tcp"):
        yield rule("tunnel", is_(L4PROTO, protocol), is_(OIFNAME, _tunnels(policy)), Verdict.ACCEPT)
    yield from kernel_answer_rules(policy, facts)
    yield rule("tunnel", is_(OIFNAME, _tunnels(policy)), Verdict.ACCEPT)
    yield LOOPBACK_OUT
    inner = (mark_of(tunnel, facts) for tunnel in policy.tunnels if tunnel.through is not None)
    probing = (facts.probe,) if asks_names(policy) else ()
    for mark in dict.fromkeys((*inner, *probing)):
        yield rule("choke-point-decides", is_(META_MARK, mark), Verdict.ACCEPT)
    # Stamped here, it would lose the mark by which the choke point knows it.
    for matches in marked(policy):
        yield rule("choke-point-decides", *matches, Verdict.ACCEPT)
    yield from to_bridge_rules(policy, facts)
    yield rule("allow", Jump("underlay"))
    yield rule("blocked", Jump("count-blocked"))
    yield rule("resumes-with-the-tunnel", is_not(Fib(("saddr", "oif"), "type"), "local"), Verdict.DROP)
    yield from session_rules(policy)
    yield rule("fail-fast", is_(L4PROTO, "tcp"), Reject("tcp reset"))
    yield rule("fail-fast", Reject("icmpx", "admin-prohibited"))


def _postrouting(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the choke point's rules: local and forwarded, the final interface, after SNAT."""
    yield from first_transport_rules(policy, facts)
    yield rule("tunnel", is_(OIFNAME, _open_tunnels(policy)), Verdict.ACCEPT)
    yield LOOPBACK_OUT
    if policy.transit:
        yield rule("transit", is_(OIFNAME, any_of(sorted(policy.transit))), Jump("transit", goto=True))
    # Before the bridges, whose names are patterns: with the tunnel up, every packet on the underlay is one of these.
    yield from to_transport_rules(policy, facts)
    yield from to_bridge_rules(policy, facts)
    yield rule("allow", Jump("underlay"))
    yield rule("blocked", Jump("count-blocked"))
    yield _TERMINAL_DROP


def _underlay(policy: Policy, facts: HostFacts, prefixes: Found) -> Iterator[Rule]:
    """Yield what else may use the underlay, in the order in which it must be asked; falling off the end is a refusal."""
    yield from link_rules(policy, facts)
    yield from client_rules(policy)
    yield from site_rules(policy)
    yield from source_rules()
    yield from reply_rules(policy, facts)
    yield from tailscale_rules(policy)
    yield from outbound_rules(policy)
    yield from outside_underlay_rules(policy, facts, prefixes)
    yield from lan_rules(policy)

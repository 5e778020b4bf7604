"""Containers, virtual machines, routed clients: the machine and each other, and the tunnel as their only way out."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

from failshut.lower.rules import (
    ALLOWED,
    IIFNAME,
    OIFNAME,
    TRANSLATED,
    address_matches,
    any_of,
    between,
    is_,
    is_not,
    rule,
    simplest,
)
from failshut.model.host import HostFacts
from failshut.model.policy import ForwardMode, Policy
from failshut.model.ruleset import Ct, Fib, Jump, Match, Meta, Nat, NatKind, Payload, Right, Rule, Verdict

_REPLY = is_(Ct("direction"), "reply")
_NOT_ROUTED_BACK = is_(Fib(("saddr", "iif"), "oif"), "missing")

# What lies on a container's or a guest's network, with what its own link needs. A bridge that gets a port to the outside after
# arming still leads nobody to the Internet.
_ON_A_BRIDGE = {
    "ip": (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/24",
        "255.255.255.255/32",
    ),
    "ip6": ("fc00::/7", "fe80::/10", "ff02::/16"),
}


def to_bridge_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules that let packets out to the bridges of this machine."""
    if policy.forward.bridges:
        for family, prefixes in _ON_A_BRIDGE.items():
            there = is_(Payload(family, "daddr"), any_of(simplest(ip_network(each)) for each in prefixes))
            yield rule("bridge", *_bridges(policy, facts, OIFNAME), there, Verdict.ACCEPT)


def from_bridge_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the input rule for the bridges of this machine: their hosts may reach it."""
    if policy.forward.bridges:
        bridges = _bridges(policy, facts, IIFNAME)
        # A guest that calls itself a router would draw the machine's own traffic to itself.
        yield rule("bridge-router", *bridges, is_(Payload("icmpv6", "type"), "nd-router-advert"), Verdict.DROP)
        yield rule("bridge", *bridges, Verdict.ACCEPT)


def bridge_spoof_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the prerouting rules that refuse a source that is not of the bridge it comes from.

    A container would else reflect its data off this machine: the answer to a forged LAN host leaves as the machine's own.
    """
    if policy.forward.bridges:
        yield from _foreign_sources("bridge-source", *_bridges(policy, facts, IIFNAME))


def borrowed_source_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the prerouting rules that refuse, from a tunnel or a routed client, a source that is reached beside the tunnel.

    The tunnel's server, or the client, would else reflect its data off this machine, as a container would.
    """
    devices = any_of((*(str(tunnel.interface) for tunnel in policy.tunnels), *map(str, policy.forward.served_clients)))
    for source in address_matches("saddr", policy.lan.prefixes + policy.lan.routed if policy.lan else ()):
        yield rule("borrowed-source", is_(IIFNAME, devices), source, _NOT_ROUTED_BACK, Verdict.DROP)
    if policy.outside and policy.outside.prefixes:
        # Whatever is not routed by the tunnel: a second set of as many as 100,000 prefixes would double the time of a load.
        yield from _foreign_sources("borrowed-source", is_(IIFNAME, _tunnels(policy)))


def _foreign_sources(comment: str, *side: Match) -> Iterator[Rule]:
    """Yield the rules that refuse, from one side, a source that is not routed back there. Who has no address yet may speak."""
    for family, nobody in (("ip", "0.0.0.0"), ("ip6", "::")):
        somebody = is_not(Payload(family, "saddr"), ip_address(nobody))
        yield rule(comment, *side, somebody, _NOT_ROUTED_BACK, Verdict.DROP)


def forward_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the forward hook's rules: between bridges, and in tunnel mode into a tunnel and back. The rest is refused."""
    if policy.forward.bridges:
        yield rule("bridge", *_bridges(policy, facts, IIFNAME), *_bridges(policy, facts, OIFNAME), Verdict.ACCEPT)
    for inside, outside in zip(_sides(policy, facts, IIFNAME), _sides(policy, facts, OIFNAME), strict=True):
        yield rule("forward:tunnel", *inside, is_(OIFNAME, _tunnels(policy)), Verdict.ACCEPT)
        yield rule("forward:replies", is_(IIFNAME, _tunnels(policy)), *outside, _REPLY, Verdict.ACCEPT)
    for call in _calls(policy):
        # With another address than it came with, it could leave as what is allowed to the machine itself.
        yield rule("forward:site", *call, *TRANSLATED, Verdict.DROP)
        yield rule("forward:site", *call, Verdict.ACCEPT)
    yield rule("forward", Jump("count-forwarded"))


def forward_masquerade_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the nat rules: the server knows the tunnel's own address alone."""
    for inside in _sides(policy, facts, IIFNAME):
        yield rule("forward:tunnel", *inside, is_(OIFNAME, _tunnels(policy)), Nat(NatKind.MASQUERADE))


def site_masquerade_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the nat rules that come first: what one site says to the other keeps its addresses."""
    for clients in _clients(policy, IIFNAME):
        for ends in between(policy.forward.local, policy.forward.remote):
            yield rule("forward:site", clients, is_(OIFNAME, _tunnels(policy)), *ends, Verdict.ACCEPT)
    for call in _calls(policy):
        yield rule("forward:site", *call, Verdict.ACCEPT)


def client_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the choke point's rule for answers from the tunnel to routed clients."""
    for to_clients in _clients(policy, OIFNAME):
        yield rule("forward:replies", is_(IIFNAME, _tunnels(policy)), to_clients, _REPLY, ALLOWED)


def site_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the choke point's rules for what the other site calls by the tunnel; nothing below is for what comes by it."""
    for call in _calls(policy):
        yield rule("forward:site", *call, ALLOWED)
    # What another tool has translated.
    for to_clients in _clients(policy, OIFNAME) if policy.forward.remote else ():
        yield rule("forward:site", is_(IIFNAME, _tunnels(policy)), to_clients, Verdict.RETURN)


def _calls(policy: Policy) -> Iterator[tuple[Match, ...]]:
    """Yield what the other site may call by the tunnel, as matches on both ends of the way."""
    for to_clients in _clients(policy, OIFNAME):
        for ends in between(policy.forward.remote, policy.forward.local):
            yield is_(IIFNAME, _tunnels(policy)), to_clients, *ends


def _clients(policy: Policy, device: Meta) -> Iterator[Match]:
    """Yield the match on routed clients that may use the tunnel, where there are any."""
    if policy.forward.served_clients:
        yield is_(device, any_of(str(each) for each in policy.forward.served_clients))


def _sides(policy: Policy, facts: HostFacts, device: Meta) -> Iterator[tuple[Match, ...]]:
    """Yield who may use the tunnel, as matches on one end of the way."""
    if policy.forward.mode is ForwardMode.TUNNEL:
        if policy.forward.bridges:
            yield _bridges(policy, facts, device)
        for clients in _clients(policy, device):
            yield (clients,)


def _bridges(policy: Policy, facts: HostFacts, device: Meta) -> tuple[Match, ...]:
    """Return the match on the bridges of this machine; one with a port to the outside is underlay, whatever its name."""
    uplinked = uplinked_bridges(policy, facts)
    excluded = (is_not(device, any_of(uplinked)),) if uplinked else ()
    return (*excluded, is_(device, any_of(policy.forward.bridges)))


def uplinked_bridges(policy: Policy, facts: HostFacts) -> list[str]:
    """Return the devices that a pattern of the bridges fits and that have a port to the outside: they are underlay."""
    return [str(each) for each in facts.uplinked if any(fnmatchcase(each, pattern) for pattern in policy.forward.bridges)]


def _tunnels(policy: Policy) -> Right:
    return any_of(str(tunnel.interface) for tunnel in policy.open_tunnels)

"""What the compiler writes, seen as rules: the laws that no policy may break."""

from __future__ import annotations

from ipaddress import collapse_addresses, ip_address, ip_interface, ip_network, summarize_address_range

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.lower import lower
from failshut.lower.rules import address_matches
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.pin import Pin
from failshut.model.policy import (
    Forward,
    ForwardMode,
    Inbound,
    Lan,
    MulticastName,
    Outbound,
    Outside,
    Policy,
    Service,
    Tailscale,
    Tunnel,
)
from failshut.model.ruleset import ChainType, Ct, Family, Hook, Jump, Match, Meta, Op, Range, Verdict
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol

prefixes = st.lists(
    st.one_of(
        st.ip_addresses(v=4).flatmap(lambda a: st.integers(1, 32).map(lambda n: ip_network((a, n), strict=False))),
        st.ip_addresses(v=6).flatmap(lambda a: st.integers(1, 128).map(lambda n: ip_network((a, n), strict=False))),
    ),
    min_size=1,
    max_size=8,
).map(tuple)
ports = st.integers(1, 65535).map(Port)
protocols = st.sampled_from(list(Protocol))
endpoints = st.builds(Endpoint, st.ip_addresses(), ports, protocols)
tunnels = st.builds(
    Tunnel,
    interface=st.sampled_from(["wg0", "wg1", "tun0"]).map(InterfaceName),
    endpoints=st.lists(endpoints, min_size=1, max_size=4).map(tuple),
    fwmark=st.one_of(st.none(), st.integers(1, 0xFFFF).map(Mark)),
    addresses=st.lists(st.ip_addresses().map(ip_interface), max_size=3).map(tuple),
)
cgroups = st.one_of(st.none(), st.just("system.slice/chrony.service"))
lans = st.builds(
    Lan,
    prefixes,
    st.just(("eth0", "wl*")),
    st.booleans(),
    st.lists(st.sampled_from(list(MulticastName)), unique=True).map(tuple),
    st.lists(st.builds(lambda protocol, port: Service(protocol, port, port), protocols, ports), max_size=2).map(tuple),
    prefixes,
    st.booleans(),
)
policies = st.builds(
    Policy,
    tunnels=st.lists(tunnels, min_size=1, max_size=3, unique_by=lambda each: each.interface).map(tuple),
    dhcp=st.booleans(),
    ndp=st.booleans(),
    lan=st.one_of(st.none(), lans),
    portal=st.booleans(),
    outside=st.one_of(st.none(), st.builds(Outside, prefixes, st.lists(st.ip_addresses(), max_size=2).map(tuple))),
    forward=st.builds(Forward, st.sampled_from(list(ForwardMode))),
    inbound=st.lists(st.builds(Inbound, st.just("ssh"), protocols, ports, prefixes, st.booleans()), max_size=2).map(tuple),
    outbound=st.lists(
        st.builds(Outbound, st.just("ntp"), protocols, prefixes, ports, st.none(), cgroups, st.booleans()), max_size=2
    ).map(tuple),
    tailscale=st.one_of(st.none(), st.builds(Tailscale, ports, st.lists(ports, max_size=2, unique=True).map(tuple), prefixes)),
)
machines = st.builds(
    HostFacts,
    underlay=st.lists(st.sampled_from(["eth0", "usb0", "wlan0"]).map(InterfaceName), max_size=3, unique=True).map(tuple),
    tunnels=st.fixed_dictionaries({InterfaceName("wg0"): st.builds(LiveTunnel, st.sampled_from(list(WireGuardKind)))}),
    egress=st.booleans(),
)


def base_chains(ruleset):
    return [chain for table in ruleset.tables for chain in table.chains if chain.base]


def every_chain_that_refuses_ends_in_an_explicit_drop(ruleset):
    """The chain's policy is never relied on: it is accept while a transaction commits."""
    for chain in base_chains(ruleset):
        if chain.base.policy is Verdict.DROP:
            assert chain.rules[-1].statements == (Verdict.DROP,)


def nothing_established_is_accepted_on_the_way_out(ruleset):
    """A connection's state alone never opens output, postrouting, or what they jump to."""
    table = ruleset.table(Family.INET, "failshut")
    outward = [each for each in table.chains if each.name not in ("input", "prerouting", "arrival", "arrived")]
    states = [
        s for chain in outward for rule in chain.rules for s in rule.statements if isinstance(s, Match) and s.left == Ct("state")
    ]
    assert states == []


def the_choke_point_comes_last_and_every_rule_gives_its_reason(ruleset):
    """Postrouting's priority is the last before the connection is confirmed; no rule is without a comment."""
    choke = ruleset.table(Family.INET, "failshut").chain("postrouting")
    assert (choke.base.type, choke.base.hook, choke.base.priority) == (ChainType.FILTER, Hook.POSTROUTING, 2**31 - 2)
    assert all(rule.comment for table in ruleset.tables for chain in table.chains for rule in chain.rules)


def a_load_at_boot_can_not_trip_over_a_name(ruleset):
    """No rule asks for an interface by index, but for loopback; users are numbers. Absent names would refuse the whole file."""
    for table in ruleset.tables:
        for rule in (rule for chain in table.chains for rule in chain.rules):
            for statement in rule.statements:
                if isinstance(statement, Match) and statement.left in (Meta("iif"), Meta("oif")):
                    assert statement.right == "lo"
                if isinstance(statement, Match) and statement.left == Meta("skuid"):
                    assert "str" not in {type(each).__name__ for each in getattr(statement.right, "elements", (statement.right,))}


def every_jump_has_a_target(ruleset):
    """A chain that is jumped to exists in the same table."""
    for table in ruleset.tables:
        names = {chain.name for chain in table.chains}
        targets = {s.target for chain in table.chains for rule in chain.rules for s in rule.statements if isinstance(s, Jump)}
        assert targets <= names


@given(policies, machines)
def test_every_lock_keeps_the_laws(policy, machine):
    """Each of them, for each policy: what takes its time is to draw one."""
    ruleset = lower(policy, machine)

    every_chain_that_refuses_ends_in_an_explicit_drop(ruleset)
    nothing_established_is_accepted_on_the_way_out(ruleset)
    the_choke_point_comes_last_and_every_rule_gives_its_reason(ruleset)
    a_load_at_boot_can_not_trip_over_a_name(ruleset)
    every_jump_has_a_target(ruleset)


@given(prefixes)
def test_merging_prefixes_loses_and_adds_no_address(given_prefixes):
    """What the matches cover is what was given: nft refuses overlaps, so they are merged, never dropped."""
    covered = []
    for match in address_matches("daddr", given_prefixes):
        elements = getattr(match.right, "elements", (match.right,))
        for each in elements:
            ends = (each.low, each.high) if isinstance(each, Range) else (ip_network(each)[0], ip_network(each)[-1])
            covered += summarize_address_range(*ends)
        assert match.op is Op.EQ
    for version in (4, 6):
        given = (each for each in given_prefixes if each.version == version)
        assert list(collapse_addresses(given)) == list(collapse_addresses(each for each in covered if each.version == version))


@pytest.mark.parametrize(("kind", "identities"), [("kernel", ["iifname"]), ("userspace", ["skuid", "iifname"])])
def test_the_tunnels_sender_is_asked_for_as_its_kind_can_be_known(kind, identities):
    """Kernel WireGuard by the interface its packets come from; wireguard-go by root's socket, or the kernel's should it come."""
    endpoint = Endpoint(ip_address("203.0.113.10"), Port(51820))
    policy = Policy((Tunnel(InterfaceName("wg0"), (endpoint,)),), pins=(Pin("vpn.example.net", (endpoint.address,)),))
    machine = HostFacts(tunnels={InterfaceName("wg0"): LiveTunnel(WireGuardKind(kind))})

    table = lower(policy, machine).table(Family.INET, "failshut")

    rules = (rule for name in ("postrouting", "transport") for rule in table.chain(name).rules)
    transport = [rule for rule in rules if rule.comment == "transport:wg0"]
    senders = [s.left.key for rule in transport for s in rule.statements if isinstance(s, Match) and isinstance(s.left, Meta)]
    # To its endpoint, and to an address on probation by each family.
    assert [each for each in senders if each != "mark"] == 3 * identities

"""Policy → routing rules → text, and back from what `ip` lists: whatever release prints it."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.arming.kernel.routing import lines_of, routing_difference
from failshut.emit.routing import emit_routes, emit_rules, rule_text
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.policy import Forward, ForwardMode, Inbound, Lan, Outbound, Outside, Policy, Tailscale, Tunnel
from failshut.model.routing import MAIN, OUR_PROTOCOL, IpVersion, RoutingRule, Table
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol
from failshut.read.routing import KernelRule, parse_rules

ENDPOINT = Endpoint(ip_address("203.0.113.10"), Port(51820))
TUNNEL = Tunnel(InterfaceName("wg0"), (ENDPOINT,), Mark(0xCA6C))
LAN = Lan((ip_network("192.168.1.0/24"), ip_network("fd50::/64")))


def texts(policy: Policy, version: IpVersion = IpVersion.IPV4, **more: bool) -> list[str]:
    routing = lower_routing(policy, HostFacts(), **more).of(version)
    return [rule_text(each).removesuffix(f" protocol {OUR_PROTOCOL}") for each in routing.rules]


def as_the_kernel_has(policy: Policy) -> list[KernelRule]:
    rules = lower_routing(policy, HostFacts()).rules
    return [
        each
        for version in IpVersion
        for each in (
            KernelRule(version, 0, ours=False, rule=RoutingRule(version, Table(255))),
            *(KernelRule(version, 0, ours=True, rule=rule) for rule in rules if rule.family is version),
            KernelRule(version, 32766, ours=False, rule=RoutingRule(version)),
        )
    ]


def test_the_least_policy_looks_nothing_up_beside_the_tunnel_but_its_own_packets():
    """Without an allowance: programs outside, our own probes, the tunnel's own packets, bridges; then the tunnel."""
    assert texts(Policy((TUNNEL,), dhcp=False)) == [
        "fwmark 0x10000001 lookup main",
        "fwmark 0x10000002 lookup main",
        "fwmark 0xca6c lookup main",
        "lookup main suppress_prefixlength 1 suppress_ifgroup 26209",
        "not fwmark 0xca6c lookup 51820",
    ]


def test_every_allowance_stands_before_the_tunnel():
    """LAN, lease, pins, UDP services, Tailscale: each as narrow as it is allowed."""
    policy = Policy(
        (TUNNEL,),
        lan=LAN,
        inbound=(Inbound("dns", Protocol.UDP, Port(53), (ip_network("192.168.1.0/24"),)), Inbound("ssh", Protocol.TCP, Port(22))),
        outbound=(Outbound("ntp", Protocol.UDP, (ip_network("192.0.2.123/32"),), Port(123), uid=7),),
        tailscale=Tailscale(),
    )

    assert texts(policy)[:-2] == [
        "ipproto udp sport 68 dport 67 lookup main",
        "to 192.168.1.0/24 lookup main suppress_prefixlength 1",
        "to 192.0.2.123/32 ipproto udp dport 123 uidrange 7-7 lookup main",
        "to 192.168.1.0/24 ipproto udp sport 53 lookup main",
        "fwmark 0x10000001 lookup main",
        "fwmark 0x10000002 lookup main",
        "fwmark 0x80000/0xff0000 ipproto tcp dport 53 lookup 51820",
        "fwmark 0x80000/0xff0000 ipproto udp dport 53 lookup 51820",
        "fwmark 0x80000/0xff0000 lookup main",
        "to 100.64.0.0/10 lookup 52",
        "fwmark 0xca6c lookup main",
    ]
    assert texts(policy, IpVersion.IPV6)[:3] == [
        "to fe80::/10 lookup main",
        "ipproto udp sport 546 dport 547 lookup main",
        "to fd50::/64 lookup main suppress_prefixlength 1",
    ]


def test_answers_find_routed_clients_where_the_policy_has_some():
    """Their devices lead off the machine, and the rule for its bridges does not show them; in block mode nothing is looked up."""
    clients = (InterfaceName("eth1"),)
    rule = "iif wg0 lookup main suppress_prefixlength 1"

    for version in IpVersion:
        assert rule in texts(Policy((TUNNEL,), forward=Forward(ForwardMode.TUNNEL, clients=clients)), version)
        assert rule not in texts(Policy((TUNNEL,), forward=Forward(ForwardMode.TUNNEL)), version)
        assert rule not in texts(Policy((TUNNEL,), forward=Forward(ForwardMode.BLOCK, clients=clients)), version)


def test_tunnels_with_one_mark_have_one_rule():
    """The kernel takes none twice, and the script would say that something is wrong."""
    beside = Tunnel(InterfaceName("wg1"), (ENDPOINT,), TUNNEL.fwmark)

    assert texts(Policy((TUNNEL, beside))) == texts(Policy((TUNNEL,)))


def test_many_prefixes_are_routes_and_not_rules():
    """Every packet is held against each rule in turn: thousands of them would cost each packet thousands of comparisons."""
    many = tuple(ip_network((0x0A000000 + number * 512, 24)) for number in range(1000))
    routing = lower_routing(Policy((TUNNEL,), lan=Lan(many), outside=Outside(many[:1])), HostFacts())

    assert len(routing.rules) < 20
    assert emit_routes(routing).count("route replace throw 10.0.") == 128
    assert "table 51820" in emit_routes(routing)


def test_no_rule_is_one_that_wg_quick_would_take_for_its_own():
    """`wg-quick down` deletes each `lookup main suppress_prefixlength 0`, whoever made it."""
    for version in IpVersion:
        assert not any(each.endswith("suppress_prefixlength 0") for each in texts(Policy((TUNNEL,), lan=LAN), version))


def test_the_devices_without_a_group_stand_in_the_text():
    """The tunnels that programs use, and not the one that only carries another; the policy's bridges."""
    inner = Tunnel(InterfaceName("wg2"), (ENDPOINT,), Mark(7), through=TUNNEL.interface)
    policy = Policy((inner, TUNNEL), forward=Forward(bridges=("br-*", "virbr0")))
    text = emit_rules(lower_routing(policy, HostFacts()).of(IpVersion.IPV6))

    assert [line for line in text.splitlines() if line.startswith("#")] == ["# tunnel wg2", "# bridge br-*", "# bridge virbr0"]


@pytest.mark.parametrize(
    "listed",
    [
        # iproute2 6.1 and, with the masks, 6.15.
        {"priority": 0, "src": "all", "ipproto": "ipproto-17", "sport": 68, "dport": 67, "table": "254", "protocol": "245"},
        {
            "priority": 0,
            "src": "all",
            "ipproto": "ipproto-17",
            "sport": 68,
            "sport_mask": "0xffff",
            "dport": 67,
            "dport_mask": "0xffff",
            "table": "254",
            "protocol": "245",
        },
    ],
)
def test_the_same_rule_is_read_from_every_release(listed):
    """What a newer release says besides says nothing."""
    wanted = RoutingRule(IpVersion.IPV4, MAIN, protocol=Protocol.UDP, source_port=Port(68), port=Port(67))

    (read,) = parse_rules(json.dumps([listed]), IpVersion.IPV4)

    assert (read.ours, read.rule) == (True, wanted)


@pytest.mark.parametrize(
    "more", [{"oif": "eth0"}, {"sport_mask": "0xff00", "sport": 1}, {"src": "10.0.0.1"}, {"tos": "0x10"}, {"goto": 5}]
)
def test_a_rule_that_says_more_is_none_of_the_models(more):
    """It is kept as it was listed, and can never be equal to one of ours."""
    (read,) = parse_rules(json.dumps([{"priority": 0, "src": "all", "table": "254", **more}]), IpVersion.IPV4)

    assert read.rule is None


class TestDifference:
    """Our rules as they were armed, compared with the kernel's."""

    policy = Policy((TUNNEL,), lan=LAN)
    wanted = lines_of(lower_routing(policy, HostFacts()))

    def test_the_armed_rules_are_no_difference(self):
        """Nothing has changed."""
        assert routing_difference(as_the_kernel_has(self.policy), self.wanted) == ()

    def test_what_wg_quick_took_is_no_difference(self):
        """Its own rule stands in, behind ours."""
        rules = [each for each in as_the_kernel_has(self.policy) if not (each.rule and each.rule.inverted)]
        assert routing_difference(rules, self.wanted) == ()

    def test_of_a_double_hop_it_is_one(self):
        """There the order decides."""
        policy = Policy((Tunnel(InterfaceName("wg2"), (ENDPOINT,), Mark(7), through=TUNNEL.interface), TUNNEL))
        rules = [each for each in as_the_kernel_has(policy) if not (each.rule and each.rule.inverted)]
        assert routing_difference(rules, lines_of(lower_routing(policy, HostFacts())))

    def test_a_missing_rule_another_order_and_a_rule_in_front_are_differences(self):
        """Each decides where packets go."""
        rules = as_the_kernel_has(self.policy)
        stranger = KernelRule(IpVersion.IPV4, 0, ours=False, rule=None, text="{}")
        for changed in ([*rules[:1], *rules[2:]], [rules[0], rules[2], rules[1], *rules[3:]], [rules[0], stranger, *rules[1:]]):
            assert routing_difference(changed, self.wanted)
        assert not routing_difference([*rules, stranger], self.wanted)


numbers = st.integers(1, 65535).map(Port)
four = st.integers(0, 2**32 - 1).flatmap(
    lambda at: st.integers(1, 32).map(lambda bits: ip_network((at >> (32 - bits) << (32 - bits), bits)))
)
a_rule = st.builds(
    RoutingRule,
    family=st.just(IpVersion.IPV4),
    table=st.sampled_from([MAIN, Table(52), Table(51820)]),
    to=st.none() | four,
    mark=st.none() | st.integers(1, 2**32 - 1).map(Mark),
    inverted=st.booleans(),
    protocol=st.sampled_from(Protocol),
    source_port=st.none() | numbers,
    port=st.none() | numbers,
    uid=st.none() | st.integers(0, 2**31),
    arrived_by=st.sampled_from([None, InterfaceName("wg0"), InterfaceName("wg1")]),
    suppress_prefix=st.none() | st.integers(0, 32),
    suppress_group=st.none() | st.integers(0, 2**31 - 1),
)


@given(a_rule, a_rule)
def test_different_rules_have_different_texts(one, other):
    """The comparison goes by the text."""
    assert (one == other) == (rule_text(one) == rule_text(other))

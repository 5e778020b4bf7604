"""The rules of a server's firewall: what is not tracked, what is not the Internet, and who else may forward."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from failshut.emit.nft import emit
from failshut.model.units import Endpoint, InterfaceName, Port
from failshut.read.nft.text import read_text
from failshut.server import config
from failshut.server.facts import Facts
from failshut.server.firewall import PRIVATE, firewall
from failshut.server.model import Server, Settings
from failshut.server.plan import Asked, _fresh

SETTINGS = Settings(Endpoint(ip_address("203.0.113.10"), Port(51820)), ssh=(Port(22),))
SERVER = Server(InterfaceName("wg0"), (ip_interface("10.86.0.1/24"), ip_interface("fd86::1/64")), Port(51820), "", SETTINGS)


def rules(comment: str, **settings: object) -> list[str]:
    """Return the emitted rules of a comment, without it; what is emitted is also read back as it was meant."""
    meant = firewall(replace(SERVER, settings=replace(SETTINGS, **settings)))
    text = emit(meant)
    assert read_text(text, "test").ruleset.canonical() == meant.canonical()
    end = f' comment "{comment}"'
    return [line.strip().removesuffix(end) for line in text.splitlines() if line.endswith(end)]


def test_the_tunnels_port_and_open_udp_ports_are_not_tracked_either_way():
    """A peer's entry for them would be asked for nothing."""
    opened = config.services("tcp/443, udp/60000-60010, udp/51820")

    assert rules("own-port", opened=opened) == [
        'iifname != "wg0" fib daddr type local udp dport 51820 notrack',
        'iifname != "wg0" fib daddr type local udp dport 60000-60010 notrack',
        'oifname != "wg0" udp sport 51820 notrack',
        'oifname != "wg0" udp sport 60000-60010 notrack',
    ]
    assert rules("wireguard") == ["udp dport 51820 accept"], "by the port alone: an untracked packet comes in"


def test_what_belongs_to_no_connection_is_dropped_before_anything_else_of_peers_is_forwarded():
    """It would not be masqueraded."""
    text = emit(firewall(replace(SERVER, settings=replace(SETTINGS, talk=True, others=(4,)))))
    chain = text[text.index("chain forward") :]

    assert rules("unknown") == ['iifname "wg0" ct state invalid,untracked drop']
    order = [chain.index(f'comment "{each}"') for each in ("replies", "unknown", "forward-others", "peers-talk", "internet")]
    assert order == sorted(order)


def test_who_is_reached_calls_networks_behind_peers_where_the_config_names_them():
    """From where its address is routed, and of the same version of IP; without the setting nobody calls a peer."""
    reach, sites = config.READERS["reach"][1]("192.168.9.0/24, fd09::/64"), config.READERS["sites"][1]("192.168.20.0/24")

    assert rules("site", reach=reach, sites=sites) == [
        'iifname != "wg0" oifname "wg0" ip saddr 192.168.9.0/24 ip daddr 192.168.20.0/24 fib saddr . iif oif exists accept'
    ]
    assert rules("site", reach=reach) == rules("site", sites=sites) == []
    assert config.words(replace(SETTINGS, sites=sites))["sites"] == "192.168.20.0/24"


@pytest.mark.parametrize(
    "there",
    ["168.63.129.16", "64:ff9b:1::1", "2002:a00:1::1", "2001::1", "::10.0.0.1", "fec0::1"]
    + [f"64:ff9b::{each}" for each in ("10.0.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1", "172.31.0.1", "255.1.1.1")],
)
def test_it_is_not_the_internet(there):
    """Whatever form its address has."""
    assert any(ip_address(there) in each for each in PRIVATE)


@pytest.mark.parametrize("there", ["1.1.1.1", "168.63.129.17", "64:ff9b::1.1.1.1", "2620:fe::fe", "2001:db8:80::80", "2a00::1"])
def test_it_is_the_internet(there):
    """Also by NAT64, by which an IPv6-only machine reaches IPv4."""
    assert not any(ip_address(there) in each for each in PRIVATE)


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "said", "emitted"),
    [
        ("0", "0", None, []),
        ("1", "0", "ipv4", ["ipv4"]),
        ("0", "1", "ipv6", ["ipv6"]),
        ("1", "1", "ipv4, ipv6", ["ipv4", "ipv6"]),
    ],
)
def test_others_forward_only_in_the_family_that_was_forwarded_before(ipv4, ipv6, said, emitted):
    """Init turns both on, and must not open what was shut."""
    sysctls = {"net/ipv4/ip_forward": ipv4, "net/ipv6/conf/all/forwarding": ipv6}
    facts = Facts({4: "eth0", 6: "eth0"}, (ip_address("203.0.113.10"),), ssh=(Port(22),), sysctls=sysctls)

    settings = _fresh(Asked(), facts, "", b"").settings

    assert config.words(settings).get("forward-others") == said
    assert config.versions(said or "no") == settings.others
    assert rules("forward-others", others=settings.others) == [
        f'meta nfproto {each} iifname != "wg0" oifname != "wg0" accept' for each in emitted
    ]

"""The judge: every allowance explains what it names and nothing beside it (docs/security.md)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.drill.attacker import craft
from failshut.drill.judgement.judge import Case, Connection, explain, is_one_too_many, is_openvpn, is_wireguard, judge
from failshut.drill.network.traffic import dns_query
from failshut.model.packet import DCCP, ICMP, ICMPV6, IGMP, ROUTING_HEADER, SCTP, TCP, UDP, UDPLITE, Captured
from failshut.model.policy import Inbound, Lan, MulticastName, Outbound, Policy, Tailscale, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Port, Protocol
from failshut.read.frame import decode

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
OWN4, OWN6, LINK6 = IPv4Address("192.168.50.20"), IPv6Address("fd50::14"), IPv6Address("fe80::14")
INNER4, INNER6 = IPv4Address("10.99.0.2"), IPv6Address("fd99::2")
SERVER4, SERVER6 = IPv4Address("203.0.113.10"), IPv6Address("2001:db8::10")
FAR4, FAR6 = IPv4Address("198.18.0.1"), IPv6Address("2001:db8:80::1")
PRINTER4, PRINTER6 = IPv4Address("192.168.50.30"), IPv6Address("fd50::30")
CALLER4 = IPv4Address("198.51.100.9")
CONTROL4 = IPv4Address("192.0.2.5")
ANY4 = IPv4Address("0.0.0.0")

POLICY = Policy(
    tunnels=(
        Tunnel(
            InterfaceName("wg0"),
            (Endpoint(SERVER4, Port(51820)), Endpoint(SERVER6, Port(51820))),
            addresses=(ip_interface("10.99.0.2/32"), ip_interface("fd99::2/128")),
        ),
    ),
    lan=Lan((ip_network("192.168.50.0/24"), ip_network("fd50::/64"))),
    inbound=(Inbound("ssh", Protocol.TCP, Port(22), (ip_network("198.51.100.0/24"),)),),
    tailscale=Tailscale(servers=(ip_network("192.0.2.5/32"),)),
    outbound=(Outbound("ntp", Protocol.UDP, (ip_network("192.0.2.123/32"),), Port(123)),),
)
CASE = Case(
    POLICY,
    {"eth0": frozenset({OWN4, OWN6, LINK6})},
    frozenset({Connection(TCP, OWN4, 22, CALLER4, 50000, "eth0"), Connection(TCP, OWN4, 22, FAR4, 50000, "eth0")}),
    {"eth0": frozenset({ip_network("192.168.50.0/24"), ip_network("fd50::/64"), ip_network("2001:db8:50::/64")})},
    frozenset({bytes(46)}),
    frozenset({(UDP, 41641), (UDP, 41650), (TCP, 50443)}),
)
HANDSHAKE = b"\x01\0\0\0" + bytes(144)
BOOTREQUEST = b"\x01" + bytes(235) + b"\x63\x82\x53\x63" + bytes(60)


def _packet(source, target, protocol, segment, **more):
    make = craft.ipv4 if source.version == 4 else craft.ipv6
    return decode(craft.ethernet(A, B, craft.ethertype_of(source), make(source, target, protocol, segment, **more)))


def _udp(source, target, ports, payload=b"payload", **more):
    return _packet(source, target, UDP, craft.udp(source, target, ports, payload), **more)


def _tcp(source, target, ports, flags=craft.ACK, **more):
    return _packet(source, target, TCP, craft.tcp(source, target, ports, flags), **more)


def _icmp6(source, target, kind, subject=INNER6, hop_limit=255):
    body = bytes((kind, 0, 0, 0)) + bytes(4) + subject.packed
    return _packet(source, target, ICMPV6, craft.icmp6(source, target, body), hop_limit=hop_limit)


def _long_icmp6(target, kind, length, hop_limit=255, source=LINK6):
    """Return an ICMPv6 message of `length` bytes of IPv6 payload."""
    body = bytes((kind, 0, 0, 0)) + bytes(4) + OWN6.packed
    return _packet(source, target, ICMPV6, craft.icmp6(source, target, body.ljust(length, b".")), hop_limit=hop_limit)


def _routed(header, first=ROUTING_HEADER):
    return _packet(OWN6, PRINTER6, first, header + craft.udp(OWN6, PRINTER6, (40000, 9100), b"detour"))


def _arp(sender, padding=0):
    return decode(craft.ethernet(A, B, 0x0806, craft.arp(2, B, sender, PRINTER4) + bytes(padding)))


def _frame(target, ethertype, payload):
    return decode(craft.ethernet(target, B, ethertype, payload))


SEGMENTS = bytes((4, 4, 1, 1, 0, 0, 0)) + FAR6.packed + PRINTER6.packed
NEIGHBOUR6 = IPv6Address("2001:db8:50::30")
BPDU = b"\x42\x42\x03" + bytes(35)
TWELVE = bytes(8)


ALLOWED = {
    "transport": [
        _udp(OWN4, SERVER4, (40000, 51820), HANDSHAKE),
        _udp(OWN6, SERVER6, (40000, 51820), b"\x04\0\0\0" + bytes(1448)),
    ],
    "dhcp": [
        _udp(ANY4, IPv4Address("255.255.255.255"), (68, 67), BOOTREQUEST),
        _udp(OWN4, IPv4Address("192.168.50.1"), (68, 67), BOOTREQUEST),
    ],
    "dhcpv6": [_udp(LINK6, IPv6Address("ff02::1:2"), (546, 547))],
    "ndp": [
        _icmp6(LINK6, IPv6Address("ff02::2"), 133),
        _icmp6(OWN6, IPv6Address("ff02::1:ff00:1"), 135, PRINTER6),
        _icmp6(IPv6Address("::"), IPv6Address("ff02::1:ff00:14"), 135, OWN6),
        _icmp6(LINK6, IPv6Address("fe80::1"), 136, OWN6),
        _icmp6(OWN6, NEIGHBOUR6, 136, OWN6),
        _icmp6(OWN6, NEIGHBOUR6, 135, NEIGHBOUR6),
        _long_icmp6(IPv6Address("ff02::1"), 136, 64),
    ],
    "mld": [
        _icmp6(LINK6, IPv6Address("ff02::16"), 143, hop_limit=1),
        _icmp6(IPv6Address("::"), IPv6Address("ff02::16"), 143, hop_limit=1),
        _long_icmp6(IPv6Address("ff02::16"), 143, 136, hop_limit=1),
    ],
    "lan": [
        _udp(OWN4, PRINTER4, (40000, 9100), ttl=1),
        _tcp(OWN6, PRINTER6, (40000, 631), hop_limit=1),
        _packet(OWN6, PRINTER6, ICMPV6, craft.echo_request(OWN6, PRINTER6), hop_limit=1),
        _packet(OWN4, PRINTER4, ICMP, craft.echo_request(OWN4, PRINTER4), ttl=1),
    ],
    "inbound:ssh": [_tcp(OWN4, CALLER4, (22, 50000)), _tcp(OWN4, CALLER4, (22, 50000), craft.RST)],
    "tailscale": [
        _udp(OWN4, FAR4, (41641, 41641)),
        _udp(OWN6, FAR6, (41641, 3478)),
        _udp(OWN4, FAR4, (41641, 1024)),
        _tcp(OWN4, CONTROL4, (50443, 443), craft.SYN),
    ],
    "outbound:ntp": [_udp(OWN4, IPv4Address("192.0.2.123"), (40000, 123))],
    "arp": [_arp(OWN4), _arp(ANY4), _arp(OWN4, padding=22)],
    "stp": [_frame("01:80:c2:00:00:00", len(BPDU), BPDU)],
    "lacp": [_frame("01:80:c2:00:00:02", 0x8809, b"\x01\x01" + bytes(108))],
    "eapol": [decode(craft.ethernet(A, B, 0x888E, bytes(46)))],
}


@pytest.mark.parametrize(("name", "packet"), [(name, each) for name, packets in ALLOWED.items() for each in packets])
def test_what_an_allowance_names_is_explained_by_it(name, packet):
    """The positive half of docs/security.md."""
    assert explain(packet, "eth0", CASE) == name


LEAKS = {
    "another program's payload to the endpoint": _udp(OWN4, SERVER4, (40000, 51820), b"GET / HTTP/1.1\r\n" * 4),
    "a handshake of a wrong length": _udp(OWN4, SERVER4, (40000, 51820), HANDSHAKE[:-1]),
    "another port of the endpoint": _udp(OWN4, SERVER4, (40000, 443), HANDSHAKE),
    "TCP to the endpoint": _tcp(OWN4, SERVER4, (40000, 51820)),
    "a handshake to somebody else": _udp(OWN4, FAR4, (40000, 51820), HANDSHAKE),
    "a handshake from the tunnel's address": _udp(INNER4, SERVER4, (40000, 51820), HANDSHAKE),
    "ping to the endpoint": _packet(OWN4, SERVER4, ICMP, craft.echo_request(OWN4, SERVER4)),
    "a lookup at the LAN's resolver": _udp(OWN4, PRINTER4, (40000, 53), ttl=1),
    "DoT at the LAN's resolver": _tcp(OWN6, PRINTER6, (40000, 853), hop_limit=1),
    "the LAN, and the router may carry it on": _udp(OWN4, PRINTER4, (40000, 9100), ttl=2),
    "the LAN with the tunnel's source": _udp(INNER4, PRINTER4, (40000, 9100), ttl=1),
    "the LAN with a forged source": _udp(IPv4Address("192.168.50.99"), PRINTER4, (40000, 9100), ttl=1),
    "the Internet": _udp(OWN4, FAR4, (40000, 443)),
    "the Internet, IPv6": _tcp(OWN6, FAR6, (40000, 443)),
    "a reply nobody asked for": _tcp(OWN4, CALLER4, (22, 50001)),
    "a reply to a caller who may not call": _tcp(OWN4, FAR4, (22, 50000)),
    "a reply from another port": _tcp(OWN4, CALLER4, (23, 50000)),
    "DHCP to the Internet": _udp(OWN4, FAR4, (68, 67), BOOTREQUEST),
    "data from port 68 to port 67": _udp(OWN4, IPv4Address("192.168.51.1"), (68, 67), b"not BOOTP"),
    "DHCPv6 from a global address": _udp(OWN6, IPv6Address("ff02::1:2"), (546, 547)),
    "neighbour discovery to the Internet": _icmp6(OWN6, FAR6, 135, FAR6),
    "neighbour discovery with a low hop limit": _icmp6(LINK6, IPv6Address("fe80::1"), 136, OWN6, hop_limit=64),
    "an advertisement of the tunnel's address": _icmp6(LINK6, IPv6Address("fe80::1"), 136, INNER6),
    "a solicitation of a router on the link": _icmp6(OWN6, NEIGHBOUR6, 133),
    "an advertisement beyond the link": _icmp6(OWN6, FAR6, 136, OWN6),
    "neighbour discovery with cargo": _long_icmp6(IPv6Address("ff02::1"), 136, 65),
    "a listener report with cargo": _long_icmp6(IPv6Address("ff02::16"), 143, 137, hop_limit=1),
    "an old listener report with cargo": _long_icmp6(IPv6Address("ff02::16"), 131, 200, hop_limit=1),
    "a group joined in IPv4": _packet(OWN4, IPv4Address("224.0.0.22"), IGMP, bytes(16), ttl=1),
    "a segment routing header to the LAN": _routed(bytes((UDP,)) + SEGMENTS),
    "a type 0 routing header to the LAN": _routed(bytes((UDP, 2, 0, 1, 0, 0, 0, 0)) + FAR6.packed),
    "a routing header behind another": _routed(bytes((ROUTING_HEADER, 0, 1, 4, 0, 0, 0, 0, UDP)) + SEGMENTS, 0),
    "a lookup by UDP-Lite": _packet(OWN4, PRINTER4, UDPLITE, craft.udp(OWN4, PRINTER4, (40000, 53), b"?")),
    "a lookup by SCTP": _packet(OWN6, PRINTER6, SCTP, b"\x9c\x40\x00\x35" + TWELVE),
    "a lookup by DCCP": _packet(OWN4, PRINTER4, DCCP, b"\x9c\x40\x03\x55" + TWELVE),
    "mDNS to one host": _udp(OWN4, PRINTER4, (40000, 5353), ttl=1),
    "LLMNR to one host": _tcp(OWN6, PRINTER6, (40000, 5355), hop_limit=1),
    "ARP with cargo": _arp(OWN4, padding=23),
    "EAPOL that is not the supplicant's": _frame(A, 0x888E, b"cargo"),
    "a BPDU with cargo": _frame("01:80:c2:00:00:00", 120, BPDU + bytes(100)),
    "IP to the bridges' group": _frame("01:80:c2:00:00:00", 0x0800, craft.ipv4(OWN4, FAR4, UDP, bytes(8))),
    "another protocol to the bridges' group": _frame("01:80:c2:00:00:00", 0x88CC, BPDU),
    "a BPDU to one host": _frame(A, len(BPDU), BPDU),
    "link aggregation with cargo": _frame("01:80:c2:00:00:02", 0x8809, b"\x01\x01" + bytes(120)),
    "another slow protocol": _frame("01:80:c2:00:00:02", 0x8809, b"\x0a\x01" + bytes(108)),
    "a listener report with a large hop limit": _icmp6(LINK6, IPv6Address("ff02::16"), 143, hop_limit=64),
    "tailscaled's port, of another machine": _udp(ANY4, FAR4, (41641, 41641)),
    "to tailscaled's port": _udp(OWN4, FAR4, (40000, 41641)),
    "tailscaled's socket of another port": _udp(OWN4, FAR4, (41650, 41641)),
    "tailscaled asks for a name": _udp(OWN6, FAR6, (41641, 53)),
    "tailscaled's port to a low one": _udp(OWN4, FAR4, (41641, 1023)),
    "tailscaled's port to mDNS": _udp(OWN4, FAR4, (41641, 5353)),
    "tailscaled from the tunnel's address": _udp(INNER4, FAR4, (41641, 41641)),
    "tailscaled to another server": _tcp(OWN4, FAR4, (50443, 443), craft.SYN),
    "tailscaled to a server's other port": _tcp(OWN4, CONTROL4, (50443, 80), craft.SYN),
    "another program to tailscaled's server": _tcp(OWN4, CONTROL4, (50444, 443), craft.SYN),
    "an exception's wrong port": _udp(OWN4, IPv4Address("192.0.2.123"), (40000, 124)),
    "an exception's wrong protocol": _tcp(OWN4, IPv4Address("192.0.2.123"), (40000, 123)),
    "ARP as the tunnel": _arp(INNER4),
    "mDNS without the allowance": _udp(OWN4, IPv4Address("224.0.0.251"), (5353, 5353)),
    "LLDP": decode(craft.ethernet(A, B, 0x88CC, bytes(46))),
    "a tagged frame": decode(craft.ethernet(A, B, 0x8100, b"\0\x05\x08\x06" + craft.arp(1, B, OWN4, PRINTER4))),
    "half a frame": decode(craft.ethernet(A, B, 0x0800, bytes(10))),
}


BELOW_IP = ("arp", "eapol", "stp", "lacp")


@pytest.mark.parametrize("name", LEAKS)
def test_what_no_allowance_names_is_a_leak(name):
    """The negative half: one detail off, and it may not leave."""
    assert explain(LEAKS[name], "eth0", CASE) is None


@pytest.mark.parametrize(("name", "packet"), [(name, each) for name, packets in ALLOWED.items() for each in packets])
def test_another_device_explains_only_what_needs_no_own_address(name, packet):
    """The source must belong to the device the packet leaves by."""
    expected = name if name in BELOW_IP or packet.source in (ANY4, IPv6Address("::")) else None

    assert explain(packet, "eth1", CASE) == expected


def test_a_policy_that_allows_nothing_explains_no_more_than_the_tunnel():
    """dhcp, ndp and every list can be switched off."""
    bare = replace(CASE, policy=Policy(tunnels=POLICY.tunnels, dhcp=False, ndp=False))
    explained = {name for packets in ALLOWED.values() for each in packets if (name := explain(each, "eth0", bare))}

    assert explained == {"transport", *BELOW_IP}


def test_what_a_double_hop_carries_is_a_leak_beside_its_outer_tunnel():
    """Seen on the underlay, the inner tunnel's transport tells its server who it comes from; the control is one hop."""
    packet = _udp(OWN4, SERVER4, (40000, 51820), HANDSHAKE)
    inner = replace(POLICY.tunnels[0], through=InterfaceName("wg9"))

    assert explain(packet, "eth0", CASE) == "transport"
    assert explain(packet, "eth0", replace(CASE, policy=replace(POLICY, tunnels=(inner,)))) is None


def test_lan_options_are_read():
    """dns, multicast and interfaces."""
    lan = Lan((ip_network("192.168.50.0/24"),), interfaces=("en*",), dns=True, multicast=tuple(MulticastName))
    case = Case(replace(POLICY, lan=lan), {"enp3s0": frozenset({OWN4}), "wlan0": frozenset({OWN4})})

    assert explain(_udp(OWN4, PRINTER4, (40000, 53), ttl=1), "enp3s0", case) == "lan"
    assert explain(_udp(OWN4, PRINTER4, (40000, 5353), ttl=1), "enp3s0", replace(case, policy=_only_multicast())) == "lan"
    assert explain(_udp(OWN4, PRINTER4, (40000, 53), ttl=1), "enp3s0", replace(case, policy=_only_multicast())) is None
    assert explain(_udp(OWN4, IPv4Address("224.0.0.251"), (5353, 5353)), "enp3s0", case) == "lan"
    assert explain(_udp(OWN4, IPv4Address("224.0.0.251"), (5353, 9)), "enp3s0", case) is None
    assert explain(_udp(OWN4, PRINTER4, (40000, 9100), ttl=1), "wlan0", case) is None


def _only_multicast():
    return replace(POLICY, lan=Lan((ip_network("192.168.50.0/24"),), multicast=tuple(MulticastName)))


def test_too_many_listener_reports_are_a_leak():
    """Ten at once and two a second is what the link needs; each may name six groups of a program's choice."""
    few = [Captured(number / 2, "eth0", ALLOWED["mld"][0]) for number in range(100)]
    many = [Captured(1.0, "eth0", ALLOWED["mld"][0])] * 20

    assert judge(few, CASE).leaks == ()
    assert len(judge(many, CASE).leaks) == 6


def test_of_listener_reports_only_whole_ones_pass():
    """The lock's bucket fills by two a second, and half a packet lets none out."""
    assert [is_one_too_many(passed, 0.4) for passed in (11, 12)] == [False, True]
    assert [is_one_too_many(passed, 0.5) for passed in (12, 13)] == [False, True]


def test_leaks_are_kept_and_allowances_counted():
    """A judgement is a count by name and the leaks in full."""
    frames = [Captured(0.1, "eth0", each) for each in (*ALLOWED["lan"], LEAKS["the Internet"])]
    judgement = judge(frames, CASE)

    assert judgement.allowed == {"lan": len(ALLOWED["lan"])}
    assert judgement.leaks == (frames[-1],)
    assert str(frames[-1]) == "  0.100s eth0: 192.168.50.20:40000 → 198.18.0.1:443 udp len 49"


@pytest.mark.parametrize(
    ("payload", "expected"), [(HANDSHAKE, True), (b"\x02\0\0\0" + bytes(88), True), (b"\x03\0\0\0" + bytes(60), True)]
)
def test_wireguards_messages_are_known(payload, expected):
    """Types and lengths of the whitepaper's section 5.4."""
    assert is_wireguard(payload) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x38" + b"sessions" + bytes(5), True),
        (b"\x48\0\0\0" + b"\x9a" * 40, True),
        (b"\x28" + b"\xe1" * 8 + bytes(16), True),
        (b"\x48\0\0", False),
        (b"\x00" + b"\x9a" * 40, False),
        (b"GET /token HTTP/1.1 with a cookie", False),
        (b"\x60" + b"\x9a" * 40, False),
    ],
    ids=["a first message", "data", "an acknowledgement", "too short", "no opcode", "text", "another opcode"],
)
def test_openvpns_messages_are_known(payload, expected):
    """By the opcode in the first byte, of those that a client sends."""
    assert is_openvpn(payload) is expected


def test_a_look_up_of_the_labs_is_never_taken_for_a_tunnels_message():
    """Else its leak is not seen where the control must see it: with numbers of two random bytes, one run in five."""
    assert not any(is_openvpn(query) or is_wireguard(query) for query in (dns_query() for _ in range(256)))


@given(st.binary(max_size=31))
def test_nothing_shorter_than_a_keepalive_is_wireguard(payload):
    """An empty data message has 32 bytes."""
    assert not is_wireguard(payload)


@given(st.binary(max_size=150))
def test_garbage_is_never_explained_but_as_a_link_frame(data):
    """Whatever is no sound frame of an allowance is a leak."""
    assert explain(decode(data), "eth0", CASE) in (None, *BELOW_IP)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_public_address_is_never_explained(target, port):
    """For every address outside the policy's prefixes, and every port."""
    named = (*POLICY.lan.prefixes, *(ip_network(each) for each in (SERVER4, SERVER6, ip_address("192.0.2.123"))))
    if any(target in each for each in named if each.version == target.version):
        return
    source = OWN4 if target.version == 4 else OWN6

    assert explain(_udp(source, target, (40000, port)), "eth0", CASE) is None

"""Frames → packets: exact where the frame is sound, quiet where it is garbage."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.drill.attacker import craft
from failshut.model.packet import DCCP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, SCTP, TCP, UDP, Packet
from failshut.read.frame import decode

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
HOST4, PEER4 = IPv4Address("192.168.50.20"), IPv4Address("198.18.0.1")
HOST6, PEER6 = IPv6Address("fd50::14"), IPv6Address("2001:db8:80::1")


def _of(source, target, protocol, segment, **more) -> Packet:
    make = craft.ipv4 if source.version == 4 else craft.ipv6
    return decode(craft.ethernet(A, B, craft.ethertype_of(source), make(source, target, protocol, segment, **more)))


@pytest.mark.parametrize(("source", "target"), [(HOST4, PEER4), (HOST6, PEER6)])
def test_a_udp_datagram_is_read_whole(source, target):
    """Addresses, ports, payload, in both families."""
    packet = _of(source, target, UDP, craft.udp(source, target, (4000, 53), b"question"))

    assert (packet.source, packet.target, packet.protocol) == (source, target, UDP)
    assert (packet.source_port, packet.target_port, packet.payload) == (4000, 53, b"question")
    assert not packet.malformed
    assert not packet.is_fragment


@pytest.mark.parametrize(("source", "target"), [(HOST4, PEER4), (HOST6, PEER6)])
def test_a_tcp_segment_is_read_with_its_flags(source, target):
    """Flags are the header's byte."""
    packet = _of(source, target, TCP, craft.tcp(source, target, (4000, 443), craft.SYN | craft.ACK, b"x"))

    assert (packet.source_port, packet.target_port, packet.tcp_flags) == (4000, 443, craft.SYN | craft.ACK)
    assert packet.payload == b"x"


def test_ethernet_padding_is_no_payload():
    """Short frames are padded to 60 bytes; the IP header says where the packet ends."""
    inner = craft.ipv4(HOST4, PEER4, UDP, craft.udp(HOST4, PEER4, (1, 2), b"x"))
    packet = decode(craft.ethernet(A, B, ETHERTYPE_IPV4, inner + bytes(18)))

    assert packet.payload == b"x"
    assert not packet.malformed


def test_vlan_tags_are_peeled_and_named():
    """A tagged frame is on another network: the judge must know."""
    inner = craft.ipv4(HOST4, PEER4, UDP, craft.udp(HOST4, PEER4, (1, 2), b"x"))
    tagged = craft.ethernet(A, B, 0x88A8, struct.pack(">HHHH", 7, 0x8100, 5, ETHERTYPE_IPV4) + inner)
    packet = decode(tagged)

    assert packet.vlans == (7, 5)
    assert packet.target_port == 2


def test_extension_headers_are_walked_to_the_transport():
    """Hop-by-hop, destination, routing: the ports behind them are found."""
    pad = b"\x01\x04\0\0\0\0"
    chain = bytes((60, 0)) + pad + bytes((43, 0)) + pad + bytes((UDP, 0)) + pad
    packet = _of(HOST6, PEER6, 0, chain + craft.udp(HOST6, PEER6, (4000, 53), b"q"))

    assert (packet.protocol, packet.target_port) == (UDP, 53)
    assert packet.options
    assert packet.extensions == (0, 60, 43)
    assert packet.body == len(chain) + 9


@pytest.mark.parametrize("protocol", [SCTP, DCCP])
@pytest.mark.parametrize(("source", "target"), [(HOST4, PEER4), (HOST6, PEER6)])
def test_other_protocols_ports_are_read(protocol, source, target):
    """SCTP and DCCP begin as UDP does, with both ports; a header cut short is malformed."""
    whole, cut = (_of(source, target, protocol, struct.pack(">HH", 4000, 53) + bytes(rest)) for rest in (12, 7))

    assert (whole.source_port, whole.target_port, whole.payload) == (4000, 53, bytes(4))
    assert cut.malformed


def test_a_frame_without_ip_keeps_its_payload():
    """What follows the EtherType, or the length in its place, is for the judge to look at."""
    assert decode(craft.ethernet(A, B, 0x888E, b"start")).payload == b"start"
    assert decode(craft.ethernet(A, B, 3, b"\x42\x42\x03")).payload == b"\x42\x42\x03"


def test_a_later_fragment_has_no_ports():
    """What looks like ports there is the middle of a datagram."""
    segment = craft.udp(HOST4, PEER4, (4000, 53), bytes(40))
    first, later = _of(HOST4, PEER4, UDP, segment[:32], fragment=0x2000), _of(HOST4, PEER4, UDP, segment[32:], fragment=4)

    assert (first.target_port, first.is_fragment, first.malformed) == (53, True, False)
    assert (later.target_port, later.fragment, later.is_fragment) == (None, 32, True)


def test_a_later_ipv6_fragment_has_no_ports():
    """Its protocol is that of the fragment header."""
    header = struct.pack(">BBHI", UDP, 0, 64, 7)
    packet = _of(HOST6, PEER6, 44, header + bytes(40))

    assert (packet.protocol, packet.fragment, packet.target_port) == (UDP, 64, None)


def test_arp_is_read():
    """Operation, sender, target."""
    packet = decode(craft.ethernet(A, B, 0x0806, craft.arp(1, B, HOST4, PEER4)))

    assert packet.arp is not None
    assert (packet.arp.operation, packet.arp.sender, packet.arp.target) == (1, HOST4, PEER4)
    assert str(packet) == "192.168.50.20 → 198.18.0.1 arp request len 42"


def test_an_icmpv6_message_keeps_its_subject():
    """The solicited address is in the payload, where the judge looks for it."""
    body = craft.neighbour_solicitation(HOST6, PEER6, PEER6)
    packet = _of(HOST6, PEER6, ICMPV6, body, hop_limit=255)

    assert (packet.icmp_type, packet.hop_limit) == (135, 255)
    assert packet.payload[4:20] == PEER6.packed


def test_a_packet_prints_in_one_line():
    """Source → target, protocol, ports, length."""
    packet = _of(HOST6, PEER6, UDP, craft.udp(HOST6, PEER6, (4000, 53), b"q"))

    assert str(packet) == "[fd50::14]:4000 → [2001:db8:80::1]:53 udp len 63"


@pytest.mark.parametrize("ethertype", [0x0800, 0x86DD, 0x0806, 0x8100])
def test_a_frame_cut_anywhere_is_malformed_or_shorter(ethertype):
    """No prefix of a sound packet raises; none of them is taken for the whole."""
    whole = {
        0x0800: craft.ipv4(HOST4, PEER4, TCP, craft.tcp(HOST4, PEER4, (1, 2), craft.SYN)),
        0x86DD: craft.ipv6(HOST6, PEER6, TCP, craft.tcp(HOST6, PEER6, (1, 2), craft.SYN)),
        0x0806: craft.arp(1, A, HOST4, PEER4),
        0x8100: b"\0\x05" + b"\x08\0" + craft.ipv4(HOST4, PEER4, TCP, craft.tcp(HOST4, PEER4, (1, 2), craft.SYN)),
    }[ethertype]
    frame = craft.ethernet(A, B, ethertype, whole)

    assert not decode(frame).malformed
    assert all(decode(frame[:length]).malformed for length in range(len(frame)))


@given(st.binary(max_size=200))
def test_garbage_never_raises(data):
    """Whatever a cable carries, the decoder answers with a packet."""
    assert decode(data).length == len(data)


@given(st.sampled_from((ETHERTYPE_IPV4, ETHERTYPE_IPV6, 0x0806, 0x8100)), st.binary(max_size=120))
def test_garbage_behind_a_sound_header_never_raises(ethertype, data):
    """The same behind an Ethernet header, where more code is reached; and it prints."""
    assert str(decode(craft.ethernet(A, B, ethertype, data)))


@given(st.integers(0, 255), st.binary(max_size=120))
def test_garbage_behind_an_ip_header_never_raises(protocol, data):
    """The same behind an IP header, in both families."""
    assert str(_of(HOST4, PEER4, protocol, data))
    assert str(_of(HOST6, PEER6, protocol, data))

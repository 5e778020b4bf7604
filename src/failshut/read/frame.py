"""Ethernet frames → `Packet`. Pure; never raises: a frame that ends early is decoded as far as it goes and marked malformed.

Formats: IEEE 802.3/802.1Q, RFC 826 (ARP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 9293 (TCP), RFC 768 (UDP),
RFC 9260 (SCTP), RFC 4340 (DCCP).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from failshut.model.packet import (
    DCCP,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_VLAN,
    ICMP,
    ICMPV6,
    ROUTING_HEADER,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    Arp,
    Packet,
)

# IPv6 extension headers (IANA "IPv6 Extension Header Types"), with how their length is counted.
_HOP_BY_HOP, _FRAGMENT, _AH, _DESTINATION = 0, 44, 51, 60
_EXTENSIONS_OF_8 = frozenset({_HOP_BY_HOP, ROUTING_HEADER, _DESTINATION, 135, 139, 140})


def decode(frame: bytes) -> Packet:
    """Return what `frame`, an Ethernet frame without its checksum, says."""
    if len(frame) < 14:
        return Packet(length=len(frame), ethertype=0, malformed=True)
    ethertype, offset, vlans = _number(frame, 12), 14, []
    while ethertype in ETHERTYPE_VLAN and len(frame) >= offset + 4:
        vlans.append(_number(frame, offset) & 0x0FFF)
        ethertype = _number(frame, offset + 2)
        offset += 4
    packet = Packet(
        length=len(frame),
        ethertype=ethertype,
        source_mac=frame[6:12].hex(":"),
        target_mac=frame[0:6].hex(":"),
        vlans=tuple(vlans),
        malformed=ethertype in ETHERTYPE_VLAN,
    )
    reader = {ETHERTYPE_ARP: _arp, ETHERTYPE_IPV4: _ipv4, ETHERTYPE_IPV6: _ipv6}.get(ethertype)
    return reader(packet, frame[offset:]) if reader else replace(packet, payload=frame[offset:])


def decode_ip(data: bytes) -> Packet | None:
    """Return what an IP packet without a link's header says; None for what is neither version's."""
    ethertype = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(data[0] >> 4) if data else None
    return decode(bytes(12) + ethertype.to_bytes(2, "big") + data) if ethertype else None


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")


def _broken(packet: Packet) -> Packet:
    return replace(packet, malformed=True)


def _arp(packet: Packet, data: bytes) -> Packet:
    # Hardware type 1, protocol type IPv4, address lengths 6 and 4: anything else is not ARP for IPv4 over Ethernet.
    if len(data) < 28 or data[:6] != b"\x00\x01\x08\x00\x06\x04":
        return _broken(packet)
    message = Arp(operation=_number(data, 6), sender=IPv4Address(data[14:18]), target=IPv4Address(data[24:28]))
    return replace(packet, arp=message)


def _ipv4(packet: Packet, data: bytes) -> Packet:
    if len(data) < 20 or data[0] >> 4 != 4:
        return _broken(packet)
    header, total = (data[0] & 0x0F) * 4, _number(data, 2)
    flags = _number(data, 6)
    packet = replace(
        packet,
        source=IPv4Address(data[12:16]),
        target=IPv4Address(data[16:20]),
        protocol=data[9],
        hop_limit=data[8],
        fragment=(flags & 0x1FFF) * 8,
        more_fragments=bool(flags & 0x2000),
        options=header > 20,
    )
    if header < 20 or not header <= total <= len(data):
        return _broken(packet)
    return _transport(packet, data[header:total])


def _ipv6(packet: Packet, data: bytes) -> Packet:
    if len(data) < 40 or data[0] >> 4 != 6:
        return _broken(packet)
    packet = replace(
        packet,
        source=IPv6Address(data[8:24]),
        target=IPv6Address(data[24:40]),
        protocol=data[6],
        hop_limit=data[7],
    )
    body = _number(data, 4)
    packet, total = replace(packet, body=body), 40 + body
    if total > len(data):
        return _broken(packet)
    return _extensions(packet, data[40:total])


def _extensions(packet: Packet, data: bytes) -> Packet:
    following = packet.protocol
    # A header takes at least 8 bytes, so the loop ends with the data.
    while following in _EXTENSIONS_OF_8 or following in (_FRAGMENT, _AH):
        if len(data) < 8:
            return _broken(replace(packet, protocol=following, options=True))
        size = 8 if following == _FRAGMENT else (data[1] + 2) * 4 if following == _AH else (data[1] + 1) * 8
        packet = replace(packet, options=True, extensions=(*packet.extensions, following))
        if following == _FRAGMENT:
            word = _number(data, 2)
            packet = replace(packet, fragment=word & 0xFFF8, more_fragments=bool(word & 1))
        following, data = data[0], data[size:]
        if packet.fragment:
            # What follows is the middle of another packet, not a header.
            return replace(packet, protocol=following, payload=data)
    return _transport(replace(packet, protocol=following), data)


def _transport(packet: Packet, data: bytes) -> Packet:
    if packet.fragment:
        return replace(packet, payload=data)
    if packet.protocol in (UDP, UDPLITE):
        return _udp(packet, data)
    if packet.protocol == TCP:
        return _tcp(packet, data)
    if packet.protocol in (ICMP, ICMPV6):
        return replace(packet, icmp_type=data[0], payload=data[4:]) if len(data) >= 4 else _broken(packet)
    if packet.protocol in (SCTP, DCCP):
        return _ports_of_twelve(packet, data)
    return replace(packet, payload=data)


def _ports_of_twelve(packet: Packet, data: bytes) -> Packet:
    """Read a header of 12 bytes that begins with both ports: SCTP's common header, DCCP's generic one."""
    if len(data) < 12:
        return _broken(packet)
    return replace(packet, source_port=_number(data, 0), target_port=_number(data, 2), payload=data[12:])


def _udp(packet: Packet, data: bytes) -> Packet:
    if len(data) < 8:
        return _broken(packet)
    packet = replace(packet, source_port=_number(data, 0), target_port=_number(data, 2), payload=data[8:])
    length = _number(data, 4)
    # In a first fragment the length is that of the whole datagram; in UDP-Lite the field is the checksum's coverage.
    if packet.protocol == UDP and not packet.more_fragments and length != len(data):
        return _broken(packet)
    return packet


def _tcp(packet: Packet, data: bytes) -> Packet:
    if len(data) < 20:
        return _broken(packet)
    header = (data[12] >> 4) * 4
    packet = replace(packet, source_port=_number(data, 0), target_port=_number(data, 2), tcp_flags=data[13])
    if not 20 <= header <= len(data):
        return _broken(packet)
    return replace(packet, payload=data[header:])

"""Ethernet frames → `Packet`. Pure; never raises: a frame that ends early is decoded as far as it goes and marked malformed.

Formats: IEEE 802.3/802.1Q, RFC 826 (ARP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 9293 (TCP), RFC 768 (UDP),
RFC 9260 (SCTP), RFC 4340 (DCCP).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

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

# What is known of a packet so far, by the names of its fields: a drill decodes hundreds of thousands, each made once.
_Fields = dict[str, Any]


def decode(frame: bytes) -> Packet:
    """Return what `frame`, an Ethernet frame without its checksum, says."""
    if len(frame) < 14:
        return Packet(length=len(frame), ethertype=0, malformed=True)
    ethertype, offset, vlans = _number(frame, 12), 14, []
    while ethertype in ETHERTYPE_VLAN and len(frame) >= offset + 4:
        vlans.append(_number(frame, offset) & 0x0FFF)
        ethertype = _number(frame, offset + 2)
        offset += 4
    fields: _Fields = {"malformed": ethertype in ETHERTYPE_VLAN}
    reader = _READERS.get(ethertype)
    if reader:
        reader(fields, frame[offset:])
    else:
        fields["payload"] = frame[offset:]
    return Packet(
        length=len(frame),
        ethertype=ethertype,
        source_mac=frame[6:12].hex(":"),
        target_mac=frame[0:6].hex(":"),
        vlans=tuple(vlans),
        **fields,
    )


def decode_ip(data: bytes) -> Packet | None:
    """Return what an IP packet without a link's header says; None for what is neither version's."""
    ethertype = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(data[0] >> 4) if data else None
    return decode(bytes(12) + ethertype.to_bytes(2, "big") + data) if ethertype else None


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")


def _arp(fields: _Fields, data: bytes) -> None:
    # Hardware type 1, protocol type IPv4, address lengths 6 and 4: anything else is not ARP for IPv4 over Ethernet.
    if len(data) < 28 or data[:6] != b"\x00\x01\x08\x00\x06\x04":
        fields["malformed"] = True
        return
    fields["arp"] = Arp(operation=_number(data, 6), sender=IPv4Address(data[14:18]), target=IPv4Address(data[24:28]))


def _ipv4(fields: _Fields, data: bytes) -> None:
    if len(data) < 20 or data[0] >> 4 != 4:
        fields["malformed"] = True
        return
    header, total = (data[0] & 0x0F) * 4, _number(data, 2)
    flags = _number(data, 6)
    fields |= {
        "source": IPv4Address(data[12:16]),
        "target": IPv4Address(data[16:20]),
        "hop_limit": data[8],
        "fragment": (flags & 0x1FFF) * 8,
        "more_fragments": bool(flags & 0x2000),
        "options": header > 20,
    }
    if header < 20 or not header <= total <= len(data):
        fields |= {"protocol": data[9], "malformed": True}
        return
    _transport(fields, data[9], data[header:total])


def _ipv6(fields: _Fields, data: bytes) -> None:
    if len(data) < 40 or data[0] >> 4 != 6:
        fields["malformed"] = True
        return
    body = _number(data, 4)
    fields |= {
        "source": IPv6Address(data[8:24]),
        "target": IPv6Address(data[24:40]),
        "hop_limit": data[7],
        "body": body,
    }
    if 40 + body > len(data):
        fields |= {"protocol": data[6], "malformed": True}
        return
    _extensions(fields, data[6], data[40 : 40 + body])


def _extensions(fields: _Fields, following: int, data: bytes) -> None:
    seen: list[int] = []
    # A header takes at least 8 bytes, so the loop ends with the data.
    while following in _EXTENSIONS_OF_8 or following in (_FRAGMENT, _AH):
        fields["options"] = True
        if len(data) < 8:
            fields |= {"protocol": following, "extensions": tuple(seen), "malformed": True}
            return
        size = 8 if following == _FRAGMENT else (data[1] + 2) * 4 if following == _AH else (data[1] + 1) * 8
        seen.append(following)
        if following == _FRAGMENT:
            word = _number(data, 2)
            fields |= {"fragment": word & 0xFFF8, "more_fragments": bool(word & 1)}
        following, data = data[0], data[size:]
        if fields.get("fragment"):
            # What follows is the middle of another packet, not a header.
            fields |= {"protocol": following, "extensions": tuple(seen), "payload": data}
            return
    fields["extensions"] = tuple(seen)
    _transport(fields, following, data)


def _transport(fields: _Fields, protocol: int, data: bytes) -> None:
    fields["protocol"] = protocol
    if fields.get("fragment"):
        fields["payload"] = data
    elif protocol in (UDP, UDPLITE):
        _udp(fields, data)
    elif protocol == TCP:
        _tcp(fields, data)
    elif protocol in (ICMP, ICMPV6):
        fields |= {"icmp_type": data[0], "payload": data[4:]} if len(data) >= 4 else {"malformed": True}
    elif protocol in (SCTP, DCCP):
        # A header of 12 bytes that begins with both ports: SCTP's common one, DCCP's generic one.
        fields |= {**_ports(data), "payload": data[12:]} if len(data) >= 12 else {"malformed": True}
    else:
        fields["payload"] = data


def _ports(data: bytes) -> _Fields:
    return {"source_port": _number(data, 0), "target_port": _number(data, 2)}


def _udp(fields: _Fields, data: bytes) -> None:
    if len(data) < 8:
        fields["malformed"] = True
        return
    fields |= {**_ports(data), "payload": data[8:]}
    # In a first fragment the length is that of the whole datagram; in UDP-Lite the field is the checksum's coverage.
    if fields["protocol"] == UDP and not fields.get("more_fragments") and _number(data, 4) != len(data):
        fields["malformed"] = True


def _tcp(fields: _Fields, data: bytes) -> None:
    if len(data) < 20:
        fields["malformed"] = True
        return
    header = (data[12] >> 4) * 4
    fields |= {**_ports(data), "tcp_flags": data[13]}
    if 20 <= header <= len(data):
        fields["payload"] = data[header:]
    else:
        fields["malformed"] = True


_READERS = {ETHERTYPE_ARP: _arp, ETHERTYPE_IPV4: _ipv4, ETHERTYPE_IPV6: _ipv6}

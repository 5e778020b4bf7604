"""Packets made by hand, for attacks that no ordinary socket can make. Pure; checksums are right."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from failshut.model.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, TCP, UDP
from failshut.model.units import Address

SYN, RST, ACK = 0x02, 0x04, 0x10
ALL_NODES_MAC, BROADCAST_MAC = "33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff"


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(source: Address, target: Address, protocol: int, length: int) -> bytes:
    if source.version == 4:
        return source.packed + target.packed + struct.pack(">BBH", 0, protocol, length)
    return source.packed + target.packed + struct.pack(">IxxxB", length, protocol)


def udp(source: Address, target: Address, ports: tuple[int, int], payload: bytes) -> bytes:
    """Return a UDP datagram with its header."""
    header = struct.pack(">HHHH", *ports, 8 + len(payload), 0)
    total = checksum(_pseudo(source, target, UDP, len(header) + len(payload)) + header + payload)
    return header[:6] + struct.pack(">H", total or 0xFFFF) + payload


def tcp(  # a header's fields are as many as they are
    source: Address,
    target: Address,
    ports: tuple[int, int],
    flags: int,
    payload: bytes = b"",
    *,
    counters: tuple[int, int] = (1000, 2000),
) -> bytes:
    """Return a TCP segment with its header; `counters` are its sequence and acknowledgement numbers."""
    acknowledged = counters[1] if flags & ACK else 0
    header = struct.pack(">HHIIBBHHH", *ports, counters[0], acknowledged, 5 << 4, flags, 64240, 0, 0)
    total = checksum(_pseudo(source, target, TCP, len(header) + len(payload)) + header + payload)
    return header[:16] + struct.pack(">H", total) + header[18:] + payload


def echo_request(source: Address, target: Address) -> bytes:
    """Return an ICMP or ICMPv6 echo request."""
    if source.version == 4:
        body = struct.pack(">BBHHH", 8, 0, 0, 7, 7) + b"failshut"
        return body[:2] + struct.pack(">H", checksum(body)) + body[4:]
    return icmp6(source, target, struct.pack(">BBHHH", 128, 0, 0, 7, 7) + b"failshut")


def icmp6(source: Address, target: Address, body: bytes) -> bytes:
    """Return an ICMPv6 message; `body` begins with type, code and two bytes that become the checksum."""
    total = checksum(_pseudo(source, target, ICMPV6, len(body)) + body)
    return body[:2] + struct.pack(">H", total) + body[4:]


def ipv4(  # a header's fields are as many as they are
    source: Address,
    target: Address,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0,
    ttl: int = 64,
    tos: int = 0,
) -> bytes:
    """Return an IPv4 packet. `fragment` is the 16-bit flags and offset word; `options` are padded to 32 bits by the caller."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload)
    header = struct.pack(">BBHHHBBH", 4 << 4 | words, tos, length, 0x4653, fragment, ttl, protocol, 0)
    header += source.packed + target.packed + options
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def ipv6(source: Address, target: Address, following: int, payload: bytes, *, hop_limit: int = 64, tos: int = 0) -> bytes:
    """Return an IPv6 packet whose first next-header is `following`."""
    return struct.pack(">IHBB", 6 << 28 | tos << 20, len(payload), following, hop_limit) + source.packed + target.packed + payload


def ip(source: Address, target: Address, protocol: int, payload: bytes) -> bytes:
    """Return a packet of the addresses' own family."""
    return (ipv4 if source.version == 4 else ipv6)(source, target, protocol, payload)


def ethernet(target_mac: str, source_mac: str, ethertype: int, payload: bytes) -> bytes:
    """Return a frame."""
    return bytes.fromhex(target_mac.replace(":", "") + source_mac.replace(":", "")) + struct.pack(">H", ethertype) + payload


def ethertype_of(address: Address) -> int:
    """Return the EtherType of an address' family."""
    return ETHERTYPE_IPV4 if address.version == 4 else ETHERTYPE_IPV6


def arp(operation: int, sender_mac: str, sender: Address, target: Address) -> bytes:
    """Return an ARP message for IPv4 over Ethernet (RFC 826)."""
    head = struct.pack(">HHBBH", 1, ETHERTYPE_IPV4, 6, 4, operation)
    return head + bytes.fromhex(sender_mac.replace(":", "")) + sender.packed + bytes(6) + target.packed


def neighbour_solicitation(source: Address, target: Address, asked: IPv6Address) -> bytes:
    """Return an ICMPv6 neighbour solicitation (RFC 4861 §4.3) without options."""
    return icmp6(source, target, struct.pack(">BBHI", 135, 0, 0, 0) + asked.packed)


def router_advertisement(source: Address, target: Address, prefix: IPv6Address, length: int, resolver: IPv6Address) -> bytes:
    """Return a router advertisement (RFC 4861 §4.2): a default router, an on-link prefix with SLAAC, a resolver (RFC 8106)."""
    head = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    information = struct.pack(">BBBBIII", 3, 4, length, 0xC0, 86400, 86400, 0) + prefix.packed
    servers = struct.pack(">BBHI", 25, 3, 0, 1800) + resolver.packed
    return icmp6(source, target, head + information + servers)

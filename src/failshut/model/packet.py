"""A frame as it was seen on a cable, decoded: what the judge, the audit's witnesses and `watch` speak about."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.units import Address

# EtherTypes (IEEE 802 numbers, IANA registry).
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_VLAN = (0x8100, 0x88A8)
ETHERTYPE_EAPOL = (0x888E, 0x88C7)
ETHERTYPE_SLOW = 0x8809
# IEEE 802.3 §3.2.6: a smaller number in the EtherType's place is the frame's length, and 802.2's header follows.
FIRST_ETHERTYPE = 0x0600

# Protocol numbers (IANA), the few that have a name here.
ICMP, IGMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 2, 6, 17, 33, 58, 132, 136
# IPv6 extension headers (IANA) that somebody asks for by name.
ROUTING_HEADER = 43
PROTOCOL_NAMES: dict[int, str] = {
    ICMP: "icmp",
    IGMP: "igmp",
    4: "ipip",
    TCP: "tcp",
    UDP: "udp",
    DCCP: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
    UDPLITE: "udplite",
}


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP message for IPv4: `operation` is 1 for a request, 2 for a reply."""

    operation: int
    sender: Address
    target: Address


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame. `length` is in bytes with the Ethernet header; a field is None where the frame has no such thing.

    `protocol` is the upper-layer protocol after every IPv6 extension header. Ports are None in a fragment that is not the
    first (`fragment` > 0, in bytes). `body` is the length of what follows the IPv6 header, by that header's own word;
    `extensions` are the numbers of the IPv6 extension headers, in order. `payload` is what follows the transport header, or the
    EtherType of a frame that is neither ARP nor IP. `malformed` says that the frame ended early or contradicted itself: such a
    frame is explained by no allowance.
    """

    length: int
    ethertype: int
    source_mac: str = ""
    target_mac: str = ""
    vlans: tuple[int, ...] = ()
    arp: Arp | None = None
    source: Address | None = None
    target: Address | None = None
    protocol: int | None = None
    hop_limit: int | None = None
    fragment: int | None = None
    more_fragments: bool = False
    options: bool = False
    body: int | None = None
    extensions: tuple[int, ...] = ()
    source_port: int | None = None
    target_port: int | None = None
    icmp_type: int | None = None
    tcp_flags: int | None = None
    payload: bytes = b""
    malformed: bool = False

    @property
    def is_fragment(self) -> bool:
        """Whether this is a piece of a larger packet, the first one included."""
        return self.more_fragments or bool(self.fragment)

    def __str__(self) -> str:
        """Return the packet in one line: src → dst, protocol, ports, length."""
        return f"{self._who()} {self._what()} len {self.length}"

    def _who(self) -> str:
        if self.arp is not None:
            return f"{self.arp.sender} → {self.arp.target}"
        if self.source is None or self.target is None:
            return f"{self.source_mac} → {self.target_mac}"
        return f"{_host(self.source, self.source_port)} → {_host(self.target, self.target_port)}"

    def _what(self) -> str:
        if self.arp is not None:
            return "arp " + {1: "request", 2: "reply"}.get(self.arp.operation, str(self.arp.operation))
        if self.protocol is None:
            return f"ethertype {self.ethertype:#06x}"
        words = [PROTOCOL_NAMES.get(self.protocol, f"protocol {self.protocol}")]
        if self.icmp_type is not None:
            words.append(f"type {self.icmp_type}")
        if self.is_fragment:
            words.append(f"fragment {self.fragment or 0}")
        if self.malformed:
            words.append("malformed")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame on its way out: seconds since the capture began, the device it left by, and what it says."""

    at: float
    device: str
    packet: Packet

    def __str__(self) -> str:
        return f"{self.at:7.3f}s {self.device}: {self.packet}"


def _host(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

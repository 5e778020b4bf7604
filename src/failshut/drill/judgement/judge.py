"""The judge: a captured packet is explained by a named allowance of the policy, or it is a leak.

This is the reading of docs/security.md, written apart from the compiler so that one cannot repeat the other's mistake. The last
line of every decision is "no".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from failshut.model.packet import (
    DCCP,
    ETHERTYPE_ARP,
    ETHERTYPE_EAPOL,
    ETHERTYPE_SLOW,
    FIRST_ETHERTYPE,
    ICMPV6,
    ROUTING_HEADER,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    Captured,
    Packet,
)
from failshut.model.policy import Lan, MulticastName, Outbound, Policy, TunnelKind
from failshut.model.units import Address, Prefix, Protocol

LINK_LOCAL6, MULTICAST6, UNSPECIFIED6 = IPv6Network("fe80::/10"), IPv6Network("ff02::/16"), IPv6Address("::")
# Where a DHCPv4 server may be: the whole link, or a private address for the unicast renewal (RFC 2131 §4.3.6, RFC 1918).
DHCP_SERVERS = tuple(
    IPv4Network(each) for each in ("255.255.255.255/32", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
)
DHCP6_SERVERS = (IPv6Network("ff02::1:2/128"), LINK_LOCAL6)
DHCP_MAGIC = bytes((0x63, 0x82, 0x53, 0x63))
ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 133, 135, 136
MLD_TYPES = frozenset({131, 132, 143})
# In bytes of IPv6 payload: what the kernel itself says in discovery, and a report of six groups (RFC 3810 §5.2).
LONGEST_NDP, LONGEST_MLD = 64, 136
# Listener reports: a bucket of ten, two a second; two more for what left while the capture began.
MLD_BURST, MLD_RATE = 12, 2
# In bytes of the whole frame. An ARP message has 42, padded 60; a BPDU 60, a LACPDU 124.
LONGEST_ARP, LONGEST_CONTROL = 64, 128
# IEEE 802.1D-2004 §7.12.3, 802.1AX §6.2.11: groups that a bridge which speaks them keeps. LLC of a BPDU; subtypes LACP, marker.
STP_GROUP, LACP_GROUP = "01:80:c2:00:00:00", "01:80:c2:00:00:02"
BPDU_LLC, SLOW_SUBTYPES = b"\x42\x42\x03", (1, 2)
DNS_PORTS = frozenset({53, 853})
# mDNS and LLMNR answer a question that is sent to one host, too (RFC 6762 §5.5, RFC 4795 §2.4).
MULTICAST_DNS_PORTS = frozenset({5353, 5355})
FIRST_HIGH_PORT = 1024
WITH_PORTS = frozenset({TCP, UDP, UDPLITE, SCTP, DCCP})
# mDNS (RFC 6762), LLMNR (RFC 4795) and SSDP (UPnP 2.0): address and port.
MULTICAST_NAMES = {
    MulticastName.MDNS: ((ip_address("224.0.0.251"), 5353), (ip_address("ff02::fb"), 5353)),
    MulticastName.LLMNR: ((ip_address("224.0.0.252"), 5355), (ip_address("ff02::1:3"), 5355)),
    MulticastName.SSDP: ((ip_address("239.255.255.250"), 1900), (ip_address("ff02::c"), 1900)),
}
# WireGuard's messages (whitepaper §5.4): type → exact length in bytes; type 4 carries data, 32 bytes and more.
HANDSHAKE_LENGTHS = {1: 148, 2: 92, 3: 64}


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that the lab itself opened to a service on the client, by the device it came in on."""

    protocol: int
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    device: str


@dataclass(frozen=True, slots=True)
class Case:
    """What the judge must know: the policy, and of the client its own addresses and the on-link prefixes by device.

    Nor can a frame say who sent it: `connections` are those that the lab opened, `eapol` the payloads that its supplicant sent,
    `tailscaled` the sockets of its tailscaled.
    """

    policy: Policy
    own: dict[str, frozenset[Address]]
    connections: frozenset[Connection] = frozenset()
    links: dict[str, frozenset[Prefix]] = field(default_factory=dict)
    eapol: frozenset[bytes] = frozenset()
    # tailscaled's own sockets, by protocol and port.
    tailscaled: frozenset[tuple[int, int]] = frozenset()

    @property
    def tunnel_addresses(self) -> frozenset[Address]:
        """Every tunnel's own addresses."""
        return frozenset(each.ip for tunnel in self.policy.tunnels for each in tunnel.addresses)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of the frames of one run: how many each allowance explains, and when; and the leaks in full."""

    allowed: dict[str, int] = field(default_factory=dict)
    leaks: tuple[Captured, ...] = ()
    moments: dict[str, tuple[float, ...]] = field(default_factory=dict)


def judge(frames: Iterable[Captured], case: Case) -> Judgement:
    """Explain every frame or call it a leak. Listener reports are a leak where they are too many, too."""
    moments: defaultdict[str, list[float]] = defaultdict(list)
    leaks = []
    for frame in frames:
        name = explain(frame.packet, frame.device, case)
        if name is None or (name == "mld" and is_one_too_many(len(moments["mld"]), frame.at)):
            leaks.append(frame)
        else:
            moments[name].append(frame.at)
    seen = {name: tuple(each) for name, each in moments.items() if each}
    return Judgement({name: len(each) for name, each in seen.items()}, tuple(leaks), seen)


def is_one_too_many(passed: int, at: float) -> bool:
    """Whether another listener report is more than the lock lets out: `passed` left before it, in `at` seconds of capture."""
    return passed + 1 > MLD_BURST + MLD_RATE * at


def explain(packet: Packet, device: str, case: Case) -> str | None:
    """Return the name of the allowance by which this packet may leave `device`, or None: it is a leak."""
    if packet.malformed or packet.vlans:
        return None
    if packet.source is None or packet.target is None:
        return _below_ip(packet, case)
    if ROUTING_HEADER in packet.extensions:
        # It names another destination than the one that the policy was asked about (RFC 8754; RFC 5095).
        return None
    return next((name for rule in _RULES if (name := rule(packet, device, case))), None)


def _below_ip(packet: Packet, case: Case) -> str | None:
    """Explain the link's own frames: ARP, EAPOL of a supplicant, spanning tree, link aggregation."""
    if packet.ethertype in ETHERTYPE_EAPOL:
        return "eapol" if packet.payload in case.eapol else None
    if packet.ethertype == ETHERTYPE_ARP:
        known = packet.arp is not None and packet.arp.sender not in case.tunnel_addresses
        return "arp" if known and packet.length <= LONGEST_ARP else None
    if packet.length > LONGEST_CONTROL:
        return None
    if packet.target_mac == STP_GROUP and packet.ethertype < FIRST_ETHERTYPE and packet.payload.startswith(BPDU_LLC):
        return "stp"
    if packet.target_mac == LACP_GROUP and packet.ethertype == ETHERTYPE_SLOW and packet.payload[:1] in _SLOW:
        return "lacp"
    return None


_SLOW = tuple(bytes((each,)) for each in SLOW_SUBTYPES)


def _is_own(packet: Packet, device: str, case: Case) -> bool:
    return packet.source in case.own.get(device, frozenset())


def _is_short(packet: Packet, most: int) -> bool:
    return packet.body is not None and packet.body <= most


def _within(address: Address | None, prefixes: Iterable[Prefix]) -> bool:
    return address is not None and any(address.version == each.version and address in each for each in prefixes)


def is_wireguard(payload: bytes) -> bool:
    """Whether a UDP payload can be a WireGuard message."""
    if len(payload) < 32 or payload[1:4] != b"\0\0\0":
        return False
    if payload[0] in HANDSHAKE_LENGTHS:
        return len(payload) == HANDSHAKE_LENGTHS[payload[0]]
    return payload[0] == 4


# The opcodes that OpenVPN's client sends, in the five high bits of the first byte; a reset's three low ones are 0 (its ssl_pkt.h).
_OPENVPN_RESETS, _OPENVPN_OTHERS = frozenset({7 << 3, 10 << 3}), frozenset({3, 4, 5, 6, 9, 11})


def is_openvpn(payload: bytes) -> bool:
    """Whether a UDP payload can be an OpenVPN client's message: its opcode, and a length that holds at least a session's number."""
    return len(payload) >= 14 and (payload[0] in _OPENVPN_RESETS or payload[0] >> 3 in _OPENVPN_OTHERS)


def _transport(packet: Packet, device: str, case: Case) -> str | None:
    """Explain a tunnel's transport: from the client's own address, to the endpoint, and in the tunnel's own protocol."""
    if not _is_own(packet, device, case):
        return None
    if packet.is_fragment:
        return _openvpn_fragment(packet, case)
    for tunnel in case.policy.tunnels:
        # What goes through another tunnel tells its server who we are when it is seen here.
        for endpoint in tunnel.endpoints if tunnel.through is None else ():
            there = (endpoint.address, int(endpoint.port), endpoint.protocol.number)
            if (packet.target, packet.target_port, packet.protocol) != there:
                continue
            speaks = is_openvpn if tunnel.kind is TunnelKind.OPENVPN else is_wireguard
            if endpoint.protocol is Protocol.TCP or speaks(packet.payload):
                return "transport"
    return None


def _openvpn_fragment(packet: Packet, case: Case) -> str | None:
    """Explain what OpenVPN's datagram was cut into on the way out: its device takes packets as large as the cable's.

    The lock decides on the whole datagram; a later piece shows no port.
    """
    carried = (each for each in case.policy.tunnels if each.kind is TunnelKind.OPENVPN and each.through is None)
    servers = {each.address for tunnel in carried for each in tunnel.endpoints if each.protocol is Protocol.UDP}
    return "transport" if packet.protocol == UDP and packet.target in servers else None


def _dhcp(packet: Packet, device: str, case: Case) -> str | None:
    """Explain a DHCPv4 client's message (RFC 2131): a BOOTREQUEST from port 68 to port 67 of a server nearby."""
    ports = (packet.protocol, packet.source_port, packet.target_port)
    if not case.policy.dhcp or ports != (UDP, 68, 67) or not _within(packet.target, DHCP_SERVERS):
        return None
    if not (_is_own(packet, device, case) or str(packet.source) == "0.0.0.0"):
        return None
    return "dhcp" if packet.payload[:1] == b"\x01" and packet.payload[236:240] == DHCP_MAGIC else None


def _dhcpv6(packet: Packet, device: str, case: Case) -> str | None:
    """Explain a DHCPv6 client's message (RFC 8415), from and to the link only."""
    ports = (packet.protocol, packet.source_port, packet.target_port)
    if not case.policy.dhcp or ports != (UDP, 546, 547) or not _within(packet.target, DHCP6_SERVERS):
        return None
    return "dhcpv6" if _within(packet.source, (LINK_LOCAL6,)) and _is_own(packet, device, case) else None


def _ndp(packet: Packet, device: str, case: Case) -> str | None:
    """Explain neighbour and router discovery (RFC 4861): short, to the link, with hop limit 255, never about a tunnel's address.

    A neighbour that asked from its global address is answered there; a router is only ever looked for by link-local addresses.
    """
    if not case.policy.ndp or packet.protocol != ICMPV6 or packet.hop_limit != 255 or packet.is_fragment:
        return None
    if packet.icmp_type not in (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT):
        return None
    on_link = packet.icmp_type != ROUTER_SOLICITATION and _within(packet.target, case.links.get(device, ()))
    if not (on_link or _within(packet.target, (LINK_LOCAL6, MULTICAST6))):
        return None
    if not (_is_own(packet, device, case) or packet.source == UNSPECIFIED6) or not _is_short(packet, LONGEST_NDP):
        return None
    subject = packet.payload[4:20]
    if packet.icmp_type == NEIGHBOUR_ADVERTISEMENT and len(subject) == 16 and IPv6Address(subject) in case.tunnel_addresses:
        return None
    return "ndp"


def _mld(packet: Packet, device: str, case: Case) -> str | None:
    """Explain multicast listener reports (RFC 3810 §5): hop limit 1, to the link; short, for anybody can choose their groups."""
    if not case.policy.ndp or packet.protocol != ICMPV6 or packet.hop_limit != 1 or packet.icmp_type not in MLD_TYPES:
        return None
    if not _is_short(packet, LONGEST_MLD):
        return None
    link_local = _within(packet.source, (LINK_LOCAL6,)) and _is_own(packet, device, case)
    if not (link_local or packet.source == UNSPECIFIED6):
        return None
    return "mld" if _within(packet.target, (MULTICAST6,)) else None


def _lan(packet: Packet, device: str, case: Case) -> str | None:
    """Explain the local network: its prefixes by its interfaces, without lookups of names unless they were asked for."""
    lan = case.policy.lan
    if lan is None or not _is_own(packet, device, case):
        return None
    if lan.interfaces and not any(fnmatchcase(device, each) for each in lan.interfaces):
        return None
    if not lan.dns and packet.protocol in WITH_PORTS and packet.target_port in refused_lookups(lan):
        return None
    # No router carries on what leaves with a hop limit of 1.
    on_link = _within(packet.target, lan.prefixes) and packet.hop_limit == 1
    there = _is_service(packet, lan) and (on_link or _within(packet.target, lan.routed))
    return "lan" if there or _is_multicast_name(packet, lan) else None


def refused_lookups(lan: Lan) -> frozenset[int]:
    """Return the ports of name look-ups that the LAN does not get, unless `dns` allows them all."""
    named = {port for _, port in _groups(lan)}
    return DNS_PORTS | (MULTICAST_DNS_PORTS - named)


def _groups(lan: Lan) -> Iterator[tuple[Address, int]]:
    return (site for name in lan.multicast for site in MULTICAST_NAMES[name])


def _is_multicast_name(packet: Packet, lan: Lan) -> bool:
    return packet.protocol == UDP and (packet.target, packet.target_port) in set(_groups(lan))


def _is_service(packet: Packet, lan: Lan) -> bool:
    if not lan.services:
        return True
    port = packet.target_port or 0
    return any(each.protocol.number == packet.protocol and each.low <= port <= each.high for each in lan.services)


def _inbound(packet: Packet, device: str, case: Case) -> str | None:
    """Explain a reply on a connection opened from outside to a service of the policy, by the device it came in on."""
    if packet.protocol is None or packet.source is None or packet.target is None:
        return None
    if packet.source_port is None or packet.target_port is None:
        return None
    this = Connection(packet.protocol, packet.source, packet.source_port, packet.target, packet.target_port, device)
    if this not in case.connections:
        return None
    for each in case.policy.inbound:
        if (each.protocol.number, int(each.port)) == (this.protocol, this.local_port):
            return f"inbound:{each.name}" if not each.sources or _within(this.remote, each.sources) else None
    return None


def _tailscale(packet: Packet, device: str, case: Case) -> str | None:
    """Explain tailscaled's own: from its UDP port to a peer's high port that asks for no names, or to a server by TCP."""
    tailscale = case.policy.tailscale
    if tailscale is None or packet.protocol is None or packet.source_port is None or packet.target_port is None:
        return None
    if (packet.protocol, packet.source_port) not in case.tailscaled or not _is_own(packet, device, case):
        return None
    if packet.protocol == UDP and packet.source_port == tailscale.port:
        return "tailscale" if packet.target_port >= FIRST_HIGH_PORT and packet.target_port not in MULTICAST_DNS_PORTS else None
    if packet.protocol == TCP and packet.target_port in tailscale.tcp:
        return "tailscale" if not tailscale.servers or _within(packet.target, tailscale.servers) else None
    return None


def _outbound(packet: Packet, device: str, case: Case) -> str | None:
    """Explain a pinned exception."""
    if not _is_own(packet, device, case):
        return None
    return next((f"outbound:{each.name}" for each in case.policy.outbound if _fits(packet, each)), None)


def _fits(packet: Packet, outbound: Outbound) -> bool:
    same = (packet.protocol, packet.target_port) == (outbound.protocol.number, int(outbound.port))
    return same and _within(packet.target, outbound.to)


_RULES: tuple[Callable[[Packet, str, Case], str | None], ...] = (
    _transport,
    _dhcp,
    _dhcpv6,
    _ndp,
    _mld,
    _inbound,
    _tailscale,
    _outbound,
    _lan,
)

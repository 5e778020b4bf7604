"""Sockets that go past the routes: bound to a device, raw, fragmented, with options, of every protocol. The tunnel stays up."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import (
    IP_PKTINFO,
    IP_UNICAST_IF,
    IPV6_UNICAST_IF,
    attempts,
    connecting,
    datagram,
    raw_ip,
    shoot,
)
from failshut.drill.judgement.judge import MULTICAST_NAMES
from failshut.drill.lab import Lab
from failshut.drill.network import traffic
from failshut.drill.scenario import Scenario
from failshut.model.packet import ICMP, ICMPV6, IGMP, ROUTING_HEADER, TCP, UDP, UDPLITE, Packet
from failshut.model.policy import MulticastName
from failshut.model.units import Address

TCP_SOCKET, UDP_SOCKET = (socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0)
# SCTP, GRE, ESP, AH, IP in IP, 6in4, L2TP, OSPF, experimental (IANA protocol numbers)
OTHER_PROTOCOLS = {"sctp": 132, "gre": 47, "esp": 50, "ipip": 4, "6in4": 41, "l2tp": 115, "ospf": 89, "253": 253}
HOP_BY_HOP, DESTINATION, FRAGMENT = 0, 60, 44
IPV6_RTHDR = 57  # linux/in6.h; a user without any privilege may set it


def bound_to_device(lab: Lab) -> None:
    """Bind to the underlay device, as `curl --interface` and `ping -I` do, and send what programs send."""
    for version in (4, 6):
        ping = (socket.SOCK_DGRAM, ICMP if version == 4 else ICMPV6)
        shoot(lab, "UDP", version, UDP_SOCKET, datagram())
        shoot(lab, "TCP", version, TCP_SOCKET, connecting(1337))
        shoot(lab, "ping", version, ping, senders.pinging)
        for name, port in (("STUN", 3478), ("STUN of a browser", 19302), ("BitTorrent DHT", 6881), ("NTP", 123), ("QUIC", 443)):
            shoot(lab, name, version, UDP_SOCKET, datagram(port))
        for name, port in (("HTTP", 80), ("DoT", 853), ("SMTP", 25)):
            shoot(lab, name, version, TCP_SOCKET, connecting(port))
        shoot(lab, "a large datagram", version, UDP_SOCKET, datagram(7002, bytes(4000)))


def per_packet(lab: Lab) -> None:
    """Choose the device packet by packet: IP_PKTINFO, IP_UNICAST_IF, a multicast interface, a zone."""
    index = senders.index_of(lab, lab.device)

    def pktinfo4(sock: socket.socket, target: Address) -> int:
        return sock.sendmsg([b"x"], [(socket.SOL_IP, IP_PKTINFO, struct.pack("=i8x", index))], 0, (str(target), 7002))

    def pktinfo6(sock: socket.socket, target: Address) -> int:
        extra = bytes(16) + struct.pack("=i", index)
        return sock.sendmsg([b"x"], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, extra)], 0, (str(target), 7002))

    def unicast4(sock: socket.socket, target: Address) -> int:
        sock.setsockopt(socket.SOL_IP, IP_UNICAST_IF, struct.pack(">I", index))
        return sock.sendto(b"x", (str(target), 7002))

    def unicast6(sock: socket.socket, target: Address) -> int:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_IF, struct.pack(">I", index))
        return sock.sendto(b"x", (str(target), 7002))

    shoot(lab, "IP_PKTINFO", 4, UDP_SOCKET, pktinfo4, device=None)
    shoot(lab, "IPV6_PKTINFO", 6, UDP_SOCKET, pktinfo6, device=None)
    shoot(lab, "IP_UNICAST_IF", 4, UDP_SOCKET, unicast4, device=None)
    shoot(lab, "IPV6_UNICAST_IF", 6, UDP_SOCKET, unicast6, device=None)


def source_ports(lab: Lab) -> None:
    """Send from the ports that careless rules let out: SSH, DHCP, WireGuard, a service of the policy."""
    ports = {22, 68, 546, 8080, int(lab.plan.endpoints[0].port)} | {int(each.port) for each in lab.policy.inbound}
    for version in (4, 6):
        for port in sorted(ports):
            shoot(lab, f"UDP from {port}", version, UDP_SOCKET, partial(_from_port, port, 7002))
            shoot(lab, f"UDP from {port} to 67", version, UDP_SOCKET, partial(_from_port, port, 67 if version == 4 else 547))


def _from_port(port: int, to: int, sock: socket.socket, target: Address) -> int:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.getsockname()[1] != port:
        sock.bind(("", port))
    return sock.sendto(b"x", (str(target), to))


def _sixteen_bytes(sock: socket.socket, target: Address) -> int:
    return sock.sendto(bytes(16), (str(target), 0))


def raw_sockets(lab: Lab) -> None:
    """Send every kind of transport protocol, and forged addresses, by raw sockets."""
    for version in (4, 6):
        for name, number in OTHER_PROTOCOLS.items():
            shoot(lab, name, version, (socket.SOCK_RAW, number), _sixteen_bytes)
        shoot(lab, "udp-lite", version, (socket.SOCK_DGRAM, UDPLITE), datagram())
        tunnel_address = lab.plan.tunnel_address(version)
        forged: dict[str, Address] = {
            "own source": lab.own_address(version),
            "a LAN host's source": lab.lan_host(version),
            "a stranger's source": lab.plan.public(version, 9),
            "the server's source": lab.host(version),
        }
        if tunnel_address is not None:
            forged["the tunnel's source"] = tunnel_address
        for name, source in forged.items():
            target = lab.target(f"{name}, IPv{version}").of(version)
            for protocol, segment in (
                (UDP, craft.udp(source, target, (4000, 7002), b"forged")),
                (TCP, craft.tcp(source, target, (4000, 443), craft.SYN)),
            ):
                lab.extra_sent += raw_ip(lab, [craft.ip(source, target, protocol, segment)], version, target)


def odd_headers(lab: Lab) -> None:
    """Send fragments in every order, IPv4 options and IPv6 extension headers."""
    _odd4(lab)
    _odd6(lab)
    _detours(lab)


def _aim4(lab: Lab, probe: str) -> tuple[IPv4Address, IPv4Address]:
    return lab.plan.cable.client4.ip, lab.target(probe).v4


def _odd4(lab: Lab) -> None:
    def send(probe: str, make: Callable[[IPv4Address, IPv4Address], list[bytes]]) -> None:
        source, target = _aim4(lab, probe)
        lab.extra_sent += raw_ip(lab, make(source, target), 4, target)

    def whole(source: IPv4Address, target: IPv4Address) -> bytes:
        return craft.udp(source, target, (4000, 7002), bytes(56))

    # Flags and offset: 0x2000 is "more fragments", the rest counts in units of 8 bytes (RFC 791).
    send("a first fragment alone", lambda s, t: [craft.ipv4(s, t, UDP, whole(s, t)[:32], fragment=0x2000)])
    send("a last fragment alone", lambda s, t: [craft.ipv4(s, t, UDP, whole(s, t)[32:], fragment=4)])
    send(
        "a tiny first fragment", lambda s, t: [craft.ipv4(s, t, TCP, craft.tcp(s, t, (4000, 443), craft.SYN)[:8], fragment=0x2000)]
    )
    send(
        "both fragments, last first",
        lambda s, t: [
            craft.ipv4(s, t, UDP, whole(s, t)[32:], fragment=4),
            craft.ipv4(s, t, UDP, whole(s, t)[:32], fragment=0x2000),
        ],
    )
    hop = lab.plan.cable.router4.packed
    options = {
        "record route": b"\x07\x07\x04\0\0\0\0\0",
        "loose source route": b"\x83\x07\x04" + hop + b"\0",
        "timestamp": b"\x44\x08\x05\0\0\0\0\0",
        "router alert": b"\x94\x04\0\0",
    }
    for name, option in options.items():
        source, target = _aim4(lab, name)
        lab.extra_sent += raw_ip(lab, [craft.ipv4(source, target, UDP, whole(source, target), options=option)], 4, target)


def _odd6(lab: Lab) -> None:
    source = lab.plan.cable.client6.ip
    pad = b"\x01\x04\0\0\0\0"
    for probe, first, header in (
        ("hop-by-hop header", HOP_BY_HOP, bytes((UDP, 0)) + pad),
        ("destination header", DESTINATION, bytes((UDP, 0)) + pad),
        ("routing header", ROUTING_HEADER, bytes((UDP, 2, 4, 0, 0, 0, 0, 0)) + IPv6Address("2001:db8::7").packed),
        ("two headers", HOP_BY_HOP, bytes((DESTINATION, 0)) + pad + bytes((UDP, 0)) + pad),
        ("a first fragment, IPv6", FRAGMENT, struct.pack(">BBHI", UDP, 0, 1, 7)),
        ("a last fragment, IPv6", FRAGMENT, struct.pack(">BBHI", UDP, 0, 64, 8)),
        ("an atomic fragment", FRAGMENT, struct.pack(">BBHI", UDP, 0, 0, 9)),
    ):
        target = lab.target(probe).v6
        datagram6 = craft.udp(source, target, (4000, 7002), bytes(56))
        lab.extra_sent += raw_ip(lab, [craft.ipv6(source, target, first, header + datagram6)], 6, target)


def _detours(lab: Lab) -> None:
    """Send to a LAN host, which may be allowed, with a routing header that names somebody else as the packet's end."""
    source, via, end = lab.plan.cable.client6.ip, lab.lan_host(6), lab.host(6)
    # RFC 8754 §2: the last segment first, then the first; RFC 5095's type 0 names the remaining hops alone.
    segments = bytes((4, 4, 1, 1, 0, 0, 0)) + end.packed + via.packed
    chains = {
        "a segment routing header": (7100, ROUTING_HEADER, bytes((UDP,)) + segments),
        "a type 0 routing header": (7101, ROUTING_HEADER, bytes((UDP, 2, 0, 1, 0, 0, 0, 0)) + end.packed),
        "one behind another header": (7102, HOP_BY_HOP, bytes((ROUTING_HEADER, 0, 1, 4, 0, 0, 0, 0)) + bytes((UDP,)) + segments),
    }
    for name, (port, first, header) in chains.items():
        lab.watch(f"{name} to the LAN", partial(_is_for, via, port))
        packet = craft.ipv6(source, via, first, header + craft.udp(source, via, (4000, port), b"detour"))
        lab.extra_sent += raw_ip(lab, [packet], 6, via)
    lab.watch("a socket's routing header to the LAN", partial(_is_for, via, 7103))
    with lab.sending(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        senders.bind_to(sock, lab.device)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, bytes((0,)) + segments)
        lab.extra_sent += attempts(partial(sock.sendto, b"detour", (str(end), 7103)))


def names_on_the_link(lab: Lab) -> None:
    """Ask the link for names, and call everybody on it: mDNS, LLMNR, SSDP, NetBIOS, broadcasts, group membership."""
    allowed = set(lab.policy.lan.multicast) if lab.policy.lan else set()
    groups = [("NetBIOS", "255.255.255.255", 137)]
    groups += [("a broadcast", "255.255.255.255", 9999), ("WS-Discovery", "239.255.255.250", 3702), ("all hosts", "224.0.0.1", 7)]
    groups += [("wide multicast", "ff05::7", 7), ("a broadcast from 68", "255.255.255.255", 69)]
    for kind in set(MulticastName) - allowed:
        groups += [(f"{kind} ({address})", str(address), port) for address, port in MULTICAST_NAMES[kind]]
    for name, group, port in groups:
        address = ip_address(group)
        lab.watch(name, partial(_is_for, address, port))
        with lab.sending(senders.family(address.version), socket.SOCK_DGRAM) as sock:
            senders.bind_to(sock, lab.device)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            where = (group, port) if address.version == 4 else (group, port, 0, senders.index_of(lab, lab.device))
            lab.extra_sent += attempts(partial(sock.sendto, traffic.dns_query("host.local"), where))
    _join(lab)


def _is_for(address: Address, port: int, packet: Packet) -> bool:
    return (packet.target, packet.target_port) == (address, port)


def _is_igmp(packet: Packet) -> bool:
    return packet.protocol == IGMP


def _join(lab: Lab) -> None:
    """Join a group: the kernel reports it to the link (IGMP)."""
    lab.watch("IGMP", _is_igmp)
    request = ip_address("239.1.2.3").packed + lab.plan.cable.client4.ip.packed
    with lab.sending(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_IP, socket.IP_ADD_MEMBERSHIP, request)
    lab.extra_sent += 1


SCENARIOS = (
    Scenario("bound-to-device", "sockets bound to the underlay device", (3, 4, 5, 10, 20, 22, 30, 89, 90), bound_to_device),
    Scenario("per-packet", "the device chosen packet by packet", (31,), per_packet, traffic=False),
    Scenario("source-ports", "source ports that careless rules let out", (36,), source_ports, traffic=False),
    Scenario("raw-sockets", "other protocols and forged sources", (27, 35, 41), raw_sockets, traffic=False),
    Scenario("odd-headers", "fragments, IP options, extension headers", (28, 29), odd_headers, tunnel=False),
    Scenario("names-on-the-link", "multicast names, broadcasts, IGMP", (24, 25, 26), names_on_the_link, traffic=False),
)

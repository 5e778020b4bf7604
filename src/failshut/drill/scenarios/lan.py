"""The LAN: what is allowed stays the LAN, and nobody on it may find the tunnel's address."""

from __future__ import annotations

import socket
from functools import partial
from ipaddress import IPv6Address, ip_address

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import attempts, family
from failshut.drill.lab import Lab, NotHereError
from failshut.drill.scenario import Scenario
from failshut.model.packet import ICMP, ICMPV6, TCP, UDP, Packet
from failshut.model.units import Address, Prefix

# Private addresses that no lab LAN uses: "the LAN is allowed" must not mean "private addresses are".
OTHER_PRIVATE = ("10.1.2.3", "172.20.1.2", "192.168.213.4", "169.254.77.7", "100.101.102.103", "fdee:ffff::7")


def only_the_lan(lab: Lab) -> None:
    """Send to private addresses that the policy does not name, and by the LAN's router to the Internet."""
    for text in OTHER_PRIVATE:
        address = ip_address(text)
        if any(address in prefix for prefix in _allowed(lab) if prefix.version == address.version):
            continue
        lab.watch(f"to {text}", partial(_goes_to, address))
        via = lab.router(address.version)
        lab.client.try_batch(f"route replace {address} via {via} dev {lab.device}")
        for kind, send in ((socket.SOCK_DGRAM, senders.datagram(1234)), (socket.SOCK_STREAM, senders.connecting(1234))):
            with lab.sending(family(address.version), kind) as sock:
                lab.extra_sent += attempts(partial(send, sock, address))
    if lab.policy.lan is None:
        for version in (4, 6):
            lab.watch(f"to the LAN, IPv{version}", partial(_goes_to, lab.lan_host(version)))
            with lab.sending(family(version), socket.SOCK_DGRAM) as sock:
                lab.extra_sent += attempts(partial(senders.datagram(1234), sock, lab.lan_host(version)))


def _allowed(lab: Lab) -> tuple[Prefix, ...]:
    return lab.policy.lan.prefixes if lab.policy.lan else ()


def _goes_to(address: Address, packet: Packet) -> bool:
    return packet.target == address


def tunnel_source(lab: Lab) -> None:
    """Talk to the LAN, which is allowed, with the tunnel's own address: sockets bound to it, and forged."""
    for version in lab.versions:
        inner, neighbour = lab.plan.tunnel_address(version), lab.lan_host(version)
        if inner is None:
            continue
        lab.watch(f"bound to the tunnel's address, IPv{version}", partial(_pair, inner, neighbour, 1234))
        with lab.sending(family(version), socket.SOCK_DGRAM) as sock:
            sock.bind((str(inner), 0))
            lab.extra_sent += attempts(partial(sock.sendto, b"who am I?", (str(neighbour), 1234)))
        for name, source, port in (("forged as the tunnel", inner, 1235), ("forged as a stranger", lab.host(version), 1236)):
            lab.watch(f"{name}, IPv{version}", partial(_pair, source, neighbour, port))
            packet = craft.ip(source, neighbour, UDP, craft.udp(source, neighbour, (4000, port), b"who am I?"))
            lab.extra_sent += senders.raw_ip(lab, [packet], version, neighbour)


def _pair(source: Address, target: Address, port: int, packet: Packet) -> bool:
    return (packet.source, packet.target, packet.target_port) == (source, target, port)


def _without_wg_quick_rules(lab: Lab) -> None:
    """Take wg-quick's own guard of the tunnel's address away, as a flush by another tool does: the lock must not need it."""
    for table_family in ("ip", "ip6"):
        lab.client.run("nft", "delete", "table", table_family, f"wg-quick-{lab.tunnel.device}")


def tunnel_probed(lab: Lab) -> None:
    """Call the tunnel's address from the LAN, over the cable (CVE-2019-14899): no answer may tell that it is here."""
    _without_wg_quick_rules(lab)
    lab.world.tcp(lab.client, 8083, "bait")
    cable = lab.plan.cable
    for version in lab.versions:
        inner, stranger = lab.plan.tunnel_address(version), lab.lan_host(version)
        if inner is None:
            continue
        lab.watch(f"answers as the tunnel, IPv{version}", partial(_comes_from, inner))
        for source in (stranger, lab.host(version)):
            packets = [
                craft.ip(source, inner, TCP, craft.tcp(source, inner, (50000, 8083), craft.SYN)),
                craft.ip(source, inner, TCP, craft.tcp(source, inner, (50001, 8084), craft.SYN | craft.ACK)),
                craft.ip(source, inner, UDP, craft.udp(source, inner, (50002, 8085), b"are you here?")),
                craft.ip(source, inner, ICMP if version == 4 else ICMPV6, craft.echo_request(source, inner)),
            ]
            raw = [craft.ethernet(cable.mac, cable.router_mac, craft.ethertype_of(inner), each) for each in packets]
            lab.extra_sent += senders.frames(lab.hosts.router, cable.router_end, raw)


def _comes_from(address: Address, packet: Packet) -> bool:
    return packet.source == address or (packet.arp is not None and packet.arp.sender == address)


def tunnel_asked_for(lab: Lab) -> None:
    """Ask the link who has the tunnel's address, by ARP and by neighbour solicitation: nobody."""
    if not lab.plan.tunnel.addresses:
        raise NotHereError("the policy does not say the tunnel's addresses")
    cable = lab.plan.cable
    inner4, inner6 = lab.plan.tunnel_address(4), lab.plan.tunnel_address(6)
    raw = []
    if inner4 is not None:
        lab.watch("ARP reply", partial(_comes_from, inner4))
        raw.append(
            craft.ethernet(craft.BROADCAST_MAC, cable.router_mac, 0x0806, craft.arp(1, cable.router_mac, lab.router(4), inner4))
        )
    if isinstance(inner6, IPv6Address):
        # Linux answers a neighbour solicitation only for addresses of the device it came by: no control can see a leak.
        source = lab.router(6)
        body = craft.neighbour_solicitation(source, inner6, inner6)
        packet = craft.ipv6(source, inner6, ICMPV6, body, hop_limit=255)
        raw.append(craft.ethernet(cable.mac, cable.router_mac, 0x86DD, packet))
    lab.extra_sent += senders.frames(lab.hosts.router, cable.router_end, raw)


def discovery_beyond_the_link(lab: Lab) -> None:
    """Use the messages of neighbour discovery as a way out: to public addresses, with data, with a low hop limit."""
    source = lab.plan.cable.client6.ip
    for name, kind in (("router solicitation", 133), ("neighbour solicitation", 135), ("neighbour advertisement", 136)):
        target = lab.target(f"{name} to the Internet").v6
        body = bytes((kind, 0, 0, 0)) + bytes(4) + target.packed + b"and some data of mine"
        for hop_limit in (255, 64):
            packet = craft.ipv6(source, target, ICMPV6, craft.icmp6(source, target, body), hop_limit=hop_limit)
            lab.extra_sent += senders.raw_ip(lab, [packet], 6, target)
    for name, kind in (("listener report", 131), ("listener report v2", 143)):
        target = lab.target(f"{name} to the Internet").v6
        body = bytes((kind, 0, 0, 0)) + bytes(4) + target.packed
        packet = craft.ipv6(source, target, ICMPV6, craft.icmp6(source, target, body), hop_limit=1)
        lab.extra_sent += senders.raw_ip(lab, [packet], 6, target)


SCENARIOS = (
    Scenario("only-the-lan", "private addresses that the policy does not name", (6, 7), only_the_lan, traffic=False),
    Scenario("tunnel-source", "the tunnel's address used towards the LAN", (41,), tunnel_source, traffic=False),
    Scenario("tunnel-probed", "the tunnel's address probed (CVE-2019-14899)", (52,), tunnel_probed),
    Scenario("tunnel-asked-for", "ARP and NDP for the tunnel's address", (53,), tunnel_asked_for),
    Scenario("ndp-scope", "neighbour discovery beyond the link", (23,), discovery_beyond_the_link, traffic=False),
)

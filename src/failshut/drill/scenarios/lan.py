"""The LAN: what is allowed stays the LAN, and nobody on it may find the tunnel's address."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv6Address, ip_address

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import attempts, family
from failshut.drill.judgement.judge import LONGEST_MLD
from failshut.drill.lab import Lab, NotHereError
from failshut.drill.network.wait import pace
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios.endpoint import CAP_NET_RAW, SOMEBODY
from failshut.model.packet import ICMP, ICMPV6, IGMP, TCP, UDP, Packet
from failshut.model.units import Address, Prefix

MLD2_REPORT = 143
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


def _is_cargo(kind: int, sender: bytes, packet: Packet) -> bool:
    return packet.icmp_type == kind and sender in packet.payload


def _cargo(lab: Lab, sender: bytes) -> dict[str, bytes]:
    """Return, by name, each message of the link's own with 1,300 bytes of somebody's, and watch them."""
    source, everybody = lab.plan.cable.link_local, IPv6Address("ff02::1")
    packets = {}
    for name, kind, hop_limit in (
        ("router solicitation", 133, 255),
        ("neighbour solicitation", 135, 255),
        ("neighbour advertisement", 136, 255),
        ("listener report", 131, 1),
        ("listener report v2", 143, 1),
    ):
        body = bytes((kind, 0, 0, 0)) + bytes(4) + everybody.packed + sender.ljust(1276, b".")
        probe = f"{name} with cargo, {sender.decode()}"
        lab.watch(probe, partial(_is_cargo, kind, sender))
        packets[probe] = craft.ipv6(source, everybody, ICMPV6, craft.icmp6(source, everybody, body), hop_limit=hop_limit)
    return packets


def _raw_to_the_link(index: int, packets: Sequence[bytes]) -> str:
    """Send whole IPv6 packets to the link's nodes, in the caller's namespace; return "sent"."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.setblocking(False)
        for each in packets:
            attempts(partial(sock.sendto, each, ("ff02::1", 0, 0, index)))
    return "sent"


def discovery_with_cargo(lab: Lab) -> None:
    """Use the messages of the link, which go to the link, for 1,300 bytes: as root, and as a user with CAP_NET_RAW alone."""
    index = senders.index_of(lab, lab.device)
    for name, uid, keep in (("root", 0, ()), ("uid 1000", SOMEBODY, (CAP_NET_RAW,))):
        packets = _cargo(lab, name.encode())
        with lab.client.inside():
            said = senders.as_user(uid, partial(_raw_to_the_link, index, list(packets.values())), keep=keep)
        for probe in packets if said != "sent" else ():
            lab.give_up(probe, said)
        lab.extra_sent += senders.TRIES * len(packets)


SECRET = b"14 bytes of it"
GROUPS, AT_ONCE, ROUNDS = 1200, 100, 3


def _is_long_report(packet: Packet) -> bool:
    return packet.icmp_type == MLD2_REPORT and (packet.body or 0) > LONGEST_MLD


def _is_igmp(packet: Packet) -> bool:
    return packet.protocol == IGMP


def _join_many(index: int, own: bytes) -> str:
    """Join group after group whose addresses are the data, leave them, and again; in the caller's namespace."""
    for number in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            for each in range(GROUPS):
                data = SECRET[:11] + bytes((number, each >> 8, each & 0xFF))
                with contextlib.suppress(OSError):
                    # The kernel holds as many as its socket memory; the others are tried all the same.
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, b"\xff\x0e" + data + struct.pack("=i", index))
                if not each % AT_ONCE:
                    pace(0.05)
            member = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for each in range(20):
                member.setsockopt(socket.SOL_IP, socket.IP_ADD_MEMBERSHIP, bytes((239, 7, number, each)) + own)
    return "joined"


def joined_groups(lab: Lab) -> None:
    """Let any user join groups whose addresses say something: the kernel itself reports them to the link (MLD, IGMP)."""
    lab.watch("long listener reports", _is_long_report)
    lab.watch("IGMP", _is_igmp)
    index, own = senders.index_of(lab, lab.device), lab.plan.cable.client4.ip.packed
    # Without another user id, root does it: the kernel asks nobody who he is.
    with lab.client.inside():
        said = senders.as_user(SOMEBODY if lab.real_root else 0, partial(_join_many, index, own))
    if said != "joined":
        lab.give_up("long listener reports", said)
        lab.give_up("IGMP", said)
    lab.extra_sent += GROUPS * ROUNDS


SCENARIOS = (
    Scenario("only-the-lan", "private addresses that the policy does not name", (6, 7), only_the_lan, traffic=False),
    Scenario("tunnel-source", "the tunnel's address used towards the LAN", (41,), tunnel_source, traffic=False),
    Scenario("tunnel-probed", "the tunnel's address probed (CVE-2019-14899)", (52,), tunnel_probed),
    Scenario("tunnel-asked-for", "ARP and NDP for the tunnel's address", (53,), tunnel_asked_for),
    Scenario("ndp-scope", "neighbour discovery beyond the link", (23,), discovery_beyond_the_link, traffic=False),
    Scenario(
        "ndp-cargo",
        "1,300 bytes in neighbour discovery and reports",
        (23,),
        discovery_with_cargo,
        traffic=False,
        needs=(Need.REAL_ROOT,),
    ),
    Scenario("joined-groups", "data in the addresses of joined groups", (24, 26), joined_groups, traffic=False, window=2.0),
)

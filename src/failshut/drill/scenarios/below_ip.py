"""Under IP: frames that no inet hook sees, from AF_PACKET, bridged guests and macvlan children."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from functools import partial

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import own_udp_frame
from failshut.drill.judgement.judge import BPDU_LLC, LACP_GROUP, LONGEST_CONTROL, STP_GROUP
from failshut.drill.lab import Lab, NotHereError
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import until
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios.endpoint import CAP_NET_RAW, SOMEBODY
from failshut.model.marks import STAMP
from failshut.model.packet import ETHERTYPE_ARP, ETHERTYPE_EAPOL, ETHERTYPE_IPV4, ETHERTYPE_SLOW, Packet
from failshut.model.units import Address

LLDP, PPPOE, VLAN, HOMEPLUG = 0x88CC, 0x8863, 0x8100, 0x88E1
# Protocol numbers of the guest's sockets: UDP's own, and one of those for experiments (RFC 3692).
GUEST_PROTOCOLS = {"UDP": 0, "raw": 253}
GUEST_MAC = "02:00:00:00:00:77"


def packet_sockets(lab: Lab) -> None:
    """Send IP by AF_PACKET: raw, cooked, and past the queueing discipline."""
    for version in (4, 6):
        for name, bypass in (("raw", False), ("QDISC_BYPASS", True)):
            target = lab.target(f"{name}, IPv{version}").of(version)
            lab.extra_sent += senders.frames(lab.client, lab.device, [own_udp_frame(lab, target)], bypass=bypass)
        _cooked(lab, lab.target(f"cooked, IPv{version}").of(version))
        # What dhclient may say, said by somebody else to somebody else.
        target = lab.target(f"from 68 to 67, IPv{version}").of(version)
        lab.extra_sent += senders.frames(lab.client, lab.device, [own_udp_frame(lab, target, (68, 67))])


def _cooked(lab: Lab, target: Address) -> None:
    frame = own_udp_frame(lab, target)
    router = bytes.fromhex(lab.plan.cable.router_mac.replace(":", ""))
    with lab.client.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        where = (lab.device, craft.ethertype_of(target), 0, 0, router)
        lab.extra_sent += senders.attempts(partial(sock.sendto, frame[14:], where))


def _is_type(ethertype: int, packet: Packet) -> bool:
    return packet.ethertype == ethertype and not packet.vlans


def odd_frames(lab: Lab) -> None:
    """Send frames of other EtherTypes, tagged frames, and ARP that gives the tunnel's address away."""
    mac, router = lab.plan.cable.mac, lab.plan.cable.router_mac
    for name, ethertype in (("LLDP", LLDP), ("PPPoE", PPPOE), ("HomePlug", HOMEPLUG), ("unknown EtherType", 0x9999)):
        lab.watch(name, partial(_is_type, ethertype))
        lab.extra_sent += senders.frames(lab.client, lab.device, [craft.ethernet(craft.BROADCAST_MAC, mac, ethertype, bytes(46))])
    target = lab.target("a VLAN tag").v4
    inner = own_udp_frame(lab, target)
    tagged = craft.ethernet(router, mac, VLAN, b"\0\x05" + inner[12:])
    lab.extra_sent += senders.frames(lab.client, lab.device, [tagged])
    tunnel_address = lab.plan.tunnel_address(4) if lab.plan.tunnel.addresses else None
    if tunnel_address is not None:
        lab.watch("ARP as the tunnel's address", lambda packet: packet.arp is not None and packet.arp.sender == tunnel_address)
        message = craft.arp(1, mac, tunnel_address, lab.router(4))
        lab.extra_sent += senders.frames(lab.client, lab.device, [craft.ethernet(craft.BROADCAST_MAC, mac, 0x0806, message)])

    _long_frames(lab)


def _is_long(ethertype: int, group: str, packet: Packet) -> bool:
    return packet.ethertype == ethertype and packet.target_mac == group and packet.length > LONGEST_CONTROL


def _long_frames(lab: Lab) -> None:
    """Send what the link may hear, with cargo: ARP, spanning tree, link aggregation."""
    mac, cargo = lab.plan.cable.mac, bytes(1000)
    message = craft.arp(1, mac, lab.own_address(4), lab.router(4))
    for name, group, ethertype, head in (
        ("ARP", craft.BROADCAST_MAC, ETHERTYPE_ARP, message),
        ("a BPDU", STP_GROUP, len(BPDU_LLC) + len(cargo), BPDU_LLC),
        ("link aggregation", LACP_GROUP, ETHERTYPE_SLOW, b"\1\1"),
    ):
        lab.watch(f"{name} with cargo", partial(_is_long, ethertype, group))
        lab.extra_sent += senders.frames(lab.client, lab.device, [craft.ethernet(group, mac, ethertype, head + cargo)])


def supplicants(lab: Lab) -> None:
    """Send EAPOL, which root's supplicant may, as a user with CAP_NET_RAW alone."""
    for ethertype in ETHERTYPE_EAPOL:
        name = f"EAPOL {ethertype:#06x} of uid 1000"
        lab.watch(name, partial(_is_type, ethertype))
        frame = craft.ethernet(craft.BROADCAST_MAC, lab.plan.cable.mac, ethertype, bytes(1000))
        with lab.client.inside():
            said = senders.as_user(SOMEBODY, partial(senders.marked_frame, lab.device, 0, frame), keep=(CAP_NET_RAW,))
        if said != "sent":
            lab.give_up(name, said)
        lab.extra_sent += senders.TRIES


def _guest(lab: Lab, link: str) -> Namespace:
    """Give the client a guest of its own, on `link`, an `ip link add …` line that makes its `eth0`."""
    guest = Namespace("guest")
    lab.client.batch(f"netns add {guest.name}\n{link}")
    guest.sysctl({"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0})
    return guest


def _give_addresses(lab: Lab, guest: Namespace) -> None:
    """Give a guest addresses of the LAN, and the router as its gateway."""
    cable = lab.plan.cable
    guest.batch(
        "link set lo up\nlink set eth0 up\n"
        f"address add {cable.neighbour(4, 77)} dev eth0\naddress add {cable.neighbour(6, 77)} dev eth0\n"
        f"route add default via {cable.router4}\nroute add default via {cable.router6}\n"
        f"neigh replace {cable.router4} lladdr {cable.router_mac} dev eth0 nud permanent\n"
        f"neigh replace {cable.router6} lladdr {cable.router_mac} dev eth0 nud permanent"
    )


def _guest_talks(lab: Lab, guest: Namespace, ready: Callable[[], bool] = lambda: True) -> None:
    """Let a guest with addresses of the LAN talk to the Internet by the router, once it is `ready`."""
    cable = lab.plan.cable
    _give_addresses(lab, guest)
    until(ready, within=10)
    with guest.inside():
        for version in (4, 6):
            target = lab.target(f"the guest, IPv{version}").of(version)
            with socket.socket(senders.family(version), socket.SOCK_DGRAM) as sock:
                lab.extra_sent += senders.attempts(partial(sock.sendto, b"guest", (str(target), 7002)), 10)
    frame = craft.ethernet(
        cable.router_mac,
        GUEST_MAC,
        ETHERTYPE_IPV4,
        craft.ip(
            lab.own_address(4), raw := lab.target("the guest, raw").v4, 17, craft.udp(lab.own_address(4), raw, (1, 2), b"guest")
        ),
    )
    lab.watch("the guest, EAPOL", partial(_is_type, ETHERTYPE_EAPOL[0]))
    hello = craft.ethernet(craft.BROADCAST_MAC, GUEST_MAC, ETHERTYPE_EAPOL[0], bytes(1000))
    lab.extra_sent += senders.frames(guest, "eth0", [frame, hello])


def bridged_guest(lab: Lab) -> None:
    """Bridge a virtual machine onto the cable, as libvirt and NetworkManager do; the bridge is no hook's interface."""
    bridge, port = "drill-br0", "drill-tap0"
    cable = f"link add {port} type veth peer name eth0 address {GUEST_MAC} netns guest"
    guest = _guest(lab, f"link add {bridge} type bridge mcast_snooping 0\n{cable}")
    lab.client.batch(
        f"link set {lab.device} master {bridge}\nlink set {port} master {bridge}\nlink set {port} up\nlink set {bridge} up"
    )
    # A port forwards only when the kernel has seen its link, which takes a moment on a busy machine.
    _guest_talks(lab, guest, ready=lambda: _forwarding(lab, bridge) == 2)


def _forwarding(lab: Lab, bridge: str) -> int:
    """Return how many ports of a bridge forward."""
    ports = json.loads(lab.client.do("ip", "-json", "-details", "link", "show", "master", bridge) or "[]")
    return sum(each.get("linkinfo", {}).get("info_slave_data", {}).get("state") == "forwarding" for each in ports)


def _macvlan_guest(lab: Lab) -> Namespace:
    link = f"link add link {lab.device} name drill-mv0 address {GUEST_MAC} type macvlan mode bridge\n"
    link += "link set drill-mv0 netns guest name eth0"
    return _guest(lab, link)


def macvlan_child(lab: Lab) -> None:
    """Give a container a macvlan child of the cable's device."""
    _guest_talks(lab, _macvlan_guest(lab))


def macvlan_marks(lab: Lab) -> None:
    """Let a container on a macvlan child mark what it sends with every guess at the stamp: the mark stays on the way down."""
    guest = _macvlan_guest(lab)
    _give_addresses(lab, guest)
    cable, guesses = lab.plan.cable, _guesses(lab)
    for name, mark in guesses.items():
        for version in (4, 6):
            for kind, number in (("UDP", socket.SOCK_DGRAM), ("raw", socket.SOCK_RAW)):
                target = lab.target(f"{name}, {kind}, IPv{version}").of(version)
                with guest.inside(), socket.socket(senders.family(version), number, GUEST_PROTOCOLS[kind]) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, senders.SO_MARK, struct.pack("=I", mark))
                    where = (str(target), 7002 if kind == "UDP" else 0)
                    lab.extra_sent += senders.attempts(partial(sock.sendto, bytes(16), where))
        source, target = cable.neighbour(4, 77).ip, lab.target(f"{name}, AF_PACKET").v4
        packet = craft.ip(source, target, 17, craft.udp(source, target, (40000, 7002), b"guest"))
        with guest.inside():
            senders.marked_frame("eth0", mark, craft.ethernet(cable.router_mac, GUEST_MAC, ETHERTYPE_IPV4, packet))
        lab.extra_sent += senders.TRIES


def _guesses(lab: Lab) -> dict[str, int]:
    """Return every mark that an outsider could take for the lock's stamp."""
    fwmark = int(lab.plan.fwmark)
    guesses = {"the known bit": int(STAMP), "all bits": 0xFFFFFFFF, "the tunnel's": fwmark, "bit and tunnel's": STAMP | fwmark}
    if lab.stamp in guesses.values():
        raise NotHereError("this machine's stamp is the known one: it has no machine id")
    return guesses


def guessed_stamp(lab: Lab) -> None:
    """Send frames with every mark that an outsider could guess for the lock's stamp."""
    for name, mark in _guesses(lab).items():
        frame = own_udp_frame(lab, lab.target(name).v4)
        with lab.client.inside():
            senders.marked_frame(lab.device, mark, frame)
        lab.extra_sent += senders.TRIES


def link_control_cargo(lab: Lab) -> None:
    """Send IP and LLDP in frames to the groups that spanning tree and link aggregation use: as a user with CAP_NET_RAW."""
    mac = lab.plan.cable.mac
    frames = [craft.ethernet(STP_GROUP, mac, LLDP, bytes(60))]
    lab.watch("LLDP to the bridge group", partial(_is_type, LLDP))
    for name, group in (("IP in a BPDU's place", STP_GROUP), ("IP in a LACPDU's place", LACP_GROUP)):
        frames.append(craft.ethernet(group, mac, ETHERTYPE_IPV4, own_udp_frame(lab, lab.target(name).v4)[14:]))
    with lab.client.inside():
        said = senders.as_user(SOMEBODY, partial(_frames_of_a_user, lab.device, frames), keep=(CAP_NET_RAW,))
    if said != "sent":
        raise NotHereError(f"a user with CAP_NET_RAW: {said}")
    lab.extra_sent += senders.TRIES * len(frames)


def _frames_of_a_user(device: str, frames: list[bytes]) -> str:
    for frame in frames:
        senders.marked_frame(device, 0, frame)
    return "sent"


SCENARIOS = (
    Scenario("packet-sockets", "AF_PACKET: raw, cooked, QDISC_BYPASS", (34,), packet_sockets, traffic=False),
    Scenario("guessed-stamp", "AF_PACKET with guessed marks", (34,), guessed_stamp, traffic=False),
    Scenario("odd-frames", "other EtherTypes, VLAN tags, ARP as the tunnel, cargo", (34, 53), odd_frames, traffic=False),
    Scenario("bridged-guest", "a guest bridged onto the cable", (105,), bridged_guest),
    Scenario("macvlan", "a container on a macvlan child", (107,), macvlan_child, needs=(Need.MACVLAN,)),
    Scenario(
        "macvlan-marks",
        "a container on a macvlan child, with guessed marks",
        (34, 107),
        macvlan_marks,
        traffic=False,
        needs=(Need.MACVLAN,),
    ),
    Scenario(
        "link-control-cargo",
        "cargo to the groups of bridges and bonds",
        (34,),
        link_control_cargo,
        traffic=False,
        needs=(Need.REAL_ROOT,),
    ),
    Scenario("eapol-programs", "EAPOL of a user with CAP_NET_RAW", (34,), supplicants, traffic=False, needs=(Need.REAL_ROOT,)),
)

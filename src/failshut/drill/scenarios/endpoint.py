"""The server's address is no way out: everybody but the tunnel who talks to it, or who wears the tunnel's mark."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import SO_MARK, TRIES, attempts, family
from failshut.drill.judgement.judge import is_openvpn, is_wireguard
from failshut.drill.lab import Lab
from failshut.drill.network import traffic
from failshut.drill.network.tunnel import SERVER_DEVICE
from failshut.drill.network.wait import pace
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios.routing import lose_rules
from failshut.model.packet import ICMP, ICMPV6, TCP, UDP, Packet
from failshut.model.units import Address, Endpoint, Protocol

# linux/capability.h
CAP_NET_RAW = 13
SOMEBODY, SYSTEM_USER = 1000, 998
LOOT = b"GET /token HTTP/1.1\r\nCookie: who-you-are\r\n\r\n"


def _to(endpoint: Endpoint, protocol: int, port: int | None) -> Callable[[Packet], bool]:
    """Return a watch for what reaches the server and is not the tunnel's."""

    def belongs(packet: Packet) -> bool:
        if packet.target != endpoint.address or packet.protocol != protocol:
            return False
        if port is None:
            return True
        # Only at the endpoint's own port can anything be taken for the tunnel's.
        spoken = port == int(endpoint.port) and (is_wireguard(packet.payload) or is_openvpn(packet.payload))
        return packet.target_port == port and not spoken

    return belongs


def _endpoints(lab: Lab) -> list[Endpoint]:
    return [each for version in (4, 6) if (each := lab.plan.endpoint(version)) is not None]


def rogue_payload(lab: Lab) -> None:
    """Send a program's own payload to the server's address and port, and to its other ports, past the routes."""
    for endpoint in _endpoints(lab):
        address, port = endpoint.address, int(endpoint.port)
        name = f"IPv{address.version}"
        probes = (
            (f"UDP to the endpoint's port, {name}", UDP, port, (socket.SOCK_DGRAM, 0), senders.datagram(port, LOOT)),
            (f"TCP to the endpoint's port, {name}", TCP, port, (socket.SOCK_STREAM, 0), senders.connecting(port)),
            (f"TCP 443 at the endpoint, {name}", TCP, 443, (socket.SOCK_STREAM, 0), senders.connecting(443)),
            (f"UDP 443 at the endpoint, {name}", UDP, 443, (socket.SOCK_DGRAM, 0), senders.datagram(443, LOOT)),
            (f"DNS at the endpoint, {name}", UDP, 53, (socket.SOCK_DGRAM, 0), senders.datagram(53, traffic.dns_query())),
        )
        for probe, protocol, watched, kind, send in probes:
            if (protocol, watched, endpoint.protocol) == (TCP, port, Protocol.TCP):
                # On the cable nobody tells it from the tunnel's own.
                continue
            lab.watch(probe, _to(endpoint, protocol, watched))
            with lab.sending(family(address.version), *kind) as sock:
                senders.bind_to(sock, lab.device)
                lab.extra_sent += attempts(partial(send, sock, address))
        _ping_endpoint(lab, endpoint)
    lose_rules(lab)
    lab.traffic.add([traffic.udp_connected(each.address, int(each.port), name="rogue") for each in _endpoints(lab)])


def _ping_endpoint(lab: Lab, endpoint: Endpoint) -> None:
    version = endpoint.address.version
    protocol = ICMP if version == 4 else ICMPV6
    lab.watch(f"ping to the endpoint, IPv{version}", _to(endpoint, protocol, None))
    with lab.sending(family(version), socket.SOCK_DGRAM, protocol) as sock:
        senders.bind_to(sock, lab.device)
        lab.extra_sent += attempts(lambda: senders.pinging(sock, endpoint.address))


def _send_marked(address: Address, port: int, mark: int, device: str) -> str:
    """Send the loot with a mark, if the kernel lets this user set one; return what happened."""
    with socket.socket(family(address.version), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        else:
            senders.bind_to(sock, device)
        attempts(lambda: sock.sendto(LOOT, (str(address), port)))
    return "sent"


def other_users(lab: Lab) -> None:
    """Talk to the endpoint as somebody else: plain, with the tunnel's mark, and with the mark by CAP_NET_RAW alone."""
    lab.must_be_direct()
    mark = int(lab.plan.fwmark)
    for endpoint in _endpoints(lab):
        address, port, version = endpoint.address, int(endpoint.port), endpoint.address.version
        # Each variant has a port of its own beside the endpoint's, so that the control can tell them apart.
        for offset, (probe, uid, keep, wears) in enumerate(_VARIANTS, start=1):
            name = f"{probe}, IPv{version}"
            lab.watch(name, _to(endpoint, UDP, port + offset))
            with lab.client.inside():
                said = {
                    senders.as_user(uid, partial(_send_marked, address, each, mark if wears else 0, lab.device), keep=keep)
                    for each in (port, port + offset)
                }
            lab.extra_sent += 2 * TRIES
            if said != {"sent"}:
                lab.give_up(name, f"the kernel refuses it: {', '.join(said)}")
    lab.notes += [f"{name}: {why}" for name, why in lab.unavailable.items()]


_VARIANTS: tuple[tuple[str, int, tuple[int, ...], bool], ...] = (
    ("uid 1000, past the routes", SOMEBODY, (), False),
    ("uid 1000 sets the mark", SOMEBODY, (), True),
    ("uid 1000 with CAP_NET_RAW sets the mark", SOMEBODY, (CAP_NET_RAW,), True),
    ("a system user, past the routes", SYSTEM_USER, (), False),
)


def marked_elsewhere(lab: Lab) -> None:
    """Wear the tunnel's mark as root, and the lock's own stamp, towards everybody else."""
    mark, port = int(lab.plan.fwmark), int(lab.plan.endpoints[0].port)
    marks = (
        ("the tunnel's mark", mark),
        ("the lock's stamp", int(lab.stamp)),
        ("both", mark | lab.stamp),
        ("all bits", 0xFFFFFFFF),
    )
    for name, value in marks:
        for version in (4, 6):
            for where, what in ((f"port {port}", port), ("port 443", 443)):
                senders.shoot(lab, f"{name}, {where}", version, (socket.SOCK_DGRAM, 0), _marked(value, what))


def _marked(mark: int, port: int) -> senders.Send:
    def send(sock: socket.socket, target: Address) -> int:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
        return sock.sendto(LOOT, (str(target), port))

    return send


def roaming(lab: Lab) -> None:
    """Have the server answer from another port: WireGuard roams after it, to a port that the policy does not name."""
    lab.must_be_direct()
    lab.watch("transport to the wrong port", lambda each: each.target_port == 51999)
    peers = traffic.Traffic(lab.hosts.server)
    peers.add([traffic.udp_connected(each.ip, 45000) for each in lab.wireguard.plan.tunnel_addresses])
    lab.hosts.server.do("wg", "set", SERVER_DEVICE, "listen-port", "51999")
    peers.start()
    pace(lab.window)
    peers.stop()


def after_close(lab: Lab) -> None:
    """Kill WireGuard and let the server go on: the kernel answers its datagrams with ICMP port unreachable."""
    lab.must_be_direct()
    endpoint = lab.wireguard.endpoint
    lab.watch("ICMP errors to the endpoint", lambda each: each.target == endpoint.address and each.protocol in (ICMP, ICMPV6))
    cable, local = lab.plan.cable, lab.own_address(endpoint.address.version)
    listening = lab.client.run("wg", "show", lab.tunnel.device, "listen-port").out.strip()
    lab.tunnel.kill()
    lab.client.try_batch(f"link delete {lab.tunnel.device}")
    payload = b"\x04\0\0\0" + bytes(60)
    packet = craft.ip(
        endpoint.address, local, UDP, craft.udp(endpoint.address, local, (int(endpoint.port), int(listening)), payload)
    )
    raw = craft.ethernet(cable.mac, cable.router_mac, craft.ethertype_of(local), packet)
    lab.extra_sent += senders.frames(lab.hosts.router, cable.router_end, [raw], times=6)


SCENARIOS = (
    Scenario("rogue-payload", "any program to the server (CVE-2023-36673)", (37, 38, 80), rogue_payload, guide_leaks=True),
    Scenario("other-users", "other users to the server, with its mark", (33, 42), other_users, needs=(Need.REAL_ROOT,)),
    Scenario("marked-elsewhere", "root wears the mark towards others", (32, 39), marked_elsewhere, traffic=False),
    Scenario("roaming", "the server roams to a wrong port", (73,), roaming),
    Scenario("after-close", "the server sends to the closed WireGuard socket", (47, 58), after_close, guide_leaks=True),
)

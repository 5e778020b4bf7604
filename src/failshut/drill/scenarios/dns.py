"""Names are the first thing to leak: lookups to public resolvers, to the LAN's, and to whatever the link announces."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from failshut.drill.attacker import senders
from failshut.drill.attacker.senders import attempts, family
from failshut.drill.judgement.judge import DNS_PORTS, refused_lookups
from failshut.drill.lab import Lab, NotHereError
from failshut.drill.network import traffic
from failshut.drill.scenario import Scenario
from failshut.model.packet import DCCP, SCTP, TCP, UDP, UDPLITE, Packet
from failshut.model.policy import Lan
from failshut.model.units import Address


def public(lab: Lab) -> None:
    """Ask public resolvers by every transport, with the tunnel down."""
    lab.tunnel.down()
    for version in (4, 6):
        for name, port in (("DNS", 53), ("DoT", 853), ("DoH", 443)):
            query = senders.datagram(port, traffic.dns_query())
            senders.shoot(lab, f"{name} over UDP", version, (socket.SOCK_DGRAM, 0), query, device=None)
            senders.shoot(lab, f"{name} over TCP", version, (socket.SOCK_STREAM, 0), senders.connecting(port), device=None)


def _to(address: Address, protocol: int, port: int) -> Callable[[Packet], bool]:
    return lambda each: (each.target, each.protocol, each.target_port) == (address, protocol, port)


def lan_resolver(lab: Lab) -> None:
    """Ask the LAN's resolver, and its router, though the LAN itself is allowed: by every protocol that has ports."""
    if lab.policy.lan and lab.policy.lan.dns:
        raise NotHereError("the policy allows DNS to the LAN (allow.lan.dns)")
    resolvers: tuple[Address, ...] = (lab.plan.resolver4, lab.plan.resolver6, lab.router(4), lab.router(6))
    ports = refused_lookups(lab.policy.lan or Lan())
    for address in resolvers:
        for port in sorted(ports):
            for name in _ASKING:
                _ask(lab, name, address, port)


# Socket type, its protocol, the protocol on the cable. SCTP and DCCP by raw sockets: few kernels have them built in.
_ASKING = {
    "UDP": (socket.SOCK_DGRAM, 0, UDP),
    "TCP": (socket.SOCK_STREAM, 0, TCP),
    "UDP-Lite": (socket.SOCK_DGRAM, UDPLITE, UDPLITE),
    "SCTP": (socket.SOCK_RAW, SCTP, SCTP),
    "DCCP": (socket.SOCK_RAW, DCCP, DCCP),
}


def _ask(lab: Lab, name: str, address: Address, port: int) -> None:
    kind, number, protocol = _ASKING[name]
    probe = f"{name} {port} to {address}"
    lab.watch(probe, _to(address, protocol, port))
    send = senders.connecting(port) if protocol == TCP else senders.datagram(port, traffic.dns_query())
    if kind == socket.SOCK_RAW:
        send = senders.datagram(0, struct.pack(">HH", 40000, port) + bytes(8) + traffic.dns_query())
    try:
        with lab.sending(family(address.version), kind, number) as sock:
            lab.extra_sent += attempts(partial(send, sock, address))
    except OSError as error:
        lab.give_up(probe, f"the kernel has no such socket: {error.strerror}")


def link_local_resolver(lab: Lab) -> None:
    """Ask a resolver at a link-local address, as RDNSS announces them."""
    router = lab.hosts.router.do("ip", "-6", "-o", "address", "show", "dev", lab.plan.cable.bridge, "scope", "link")
    address = router.split()[3].split("/")[0]
    index = senders.index_of(lab, lab.device)
    for port in sorted(DNS_PORTS):
        lab.watch(f"UDP {port} to the router's fe80::", _to(ip_address(address), UDP, port))
        with lab.sending(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            lab.extra_sent += attempts(partial(sock.sendto, traffic.dns_query(), (address, port, 0, index)))


SCENARIOS = (
    Scenario("dns-public", "DNS, DoT and DoH to public resolvers, tunnel down", (8, 10, 11, 15, 88), public, traffic=False),
    Scenario("dns-lan", "DNS, DoT, mDNS and LLMNR to the LAN's resolver", (9, 12), lan_resolver, traffic=False, guide_leaks=True),
    Scenario("dns-link-local", "DNS to a link-local resolver", (21,), link_local_resolver, traffic=False),
)

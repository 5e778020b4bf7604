"""What verify itself sends: every kind of packet a program can, each with its own words in it, counted where it is sent."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

from failshut.drill.attacker import craft
from failshut.drill.attacker.senders import bind_to, family
from failshut.drill.network.traffic import dns_query
from failshut.model.packet import ETHERTYPE_ARP, ICMP, ICMPV6, TCP, UDP, Packet
from failshut.model.units import Address
from failshut.verify.capture import CONTROL
from failshut.verify.ground import Device, Ground
from failshut.verify.outcome import Tried

# Documentation addresses (RFC 5737, RFC 3849): nobody has them, and no policy that is meant names them.
FAR: dict[int, Address] = {4: IPv4Address("198.51.100.77"), 6: IPv6Address("2001:db8:77::77")}
OTHER_FAR: dict[int, Address] = {4: IPv4Address("192.0.2.77"), 6: IPv6Address("2001:db8:78::77")}
TOKEN = b"failshut verify "
_BROADCAST = b"\xff" * 6
# linux/in.h, linux/in6.h: a source address that is not, or no longer, the machine's own
_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75
# The lock's answers: nft's drop and reject as a program meets them, and what ends a connection.
_REFUSALS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT}
)
_ON_ITS_WAY = frozenset({errno.EINPROGRESS, errno.EAGAIN, errno.EALREADY, errno.ENOBUFS})

Make = Callable[[], socket.socket]
Fire = Callable[[socket.socket], object]


@dataclass(slots=True)
class Probe:
    """One way to send. `fresh` opens a socket for each send, as a connect needs.

    A probe that the kernel neither takes nor refuses (no route, no such address) counts as not tried.
    """

    name: str
    make: Make
    fire: Fire
    fresh: bool = False
    # (protocol, target, port) of what carries no words: a SYN.
    goes_to: tuple[int, Address, int] | None = None
    word: bytes = b""
    sent: int = 0
    refused: int = 0
    impossible: str = ""
    _socket: socket.socket | None = field(default=None, repr=False)

    @classmethod
    def by_others(cls, name: str, word: bytes) -> Probe:
        """Return what another program sends for us: known by its words, sent by nobody here."""
        return cls(name, _packet_socket, lambda _: None, word=word)

    def step(self) -> None:
        """Send once; a refusal is what a lock is for, so it is only counted."""
        try:
            if self._socket is None:
                self._socket = self.make()
            self.fire(self._socket)
            self.sent += 1
        except OSError as error:
            self._note(error)
        if self.fresh:
            self.close()

    def _note(self, error: OSError) -> None:
        if error.errno in _ON_ITS_WAY:
            self.sent += 1
        elif error.errno in _REFUSALS:
            self.refused += 1
            # A program whose connection broke opens it again.
            if self._socket is not None and self._socket.type == socket.SOCK_STREAM:
                self.close()
        else:
            self.impossible = error.strerror or str(error)

    def open(self) -> None:
        """Open the socket now: what is opened through the tunnel keeps the tunnel's address."""
        try:
            self._socket = self._socket or self.make()
        except OSError as error:
            self.impossible = error.strerror or str(error)

    def close(self) -> None:
        """Close the socket; the next step opens another."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def tally(self) -> Tried:
        """Return what was tried since the last tally, and count anew."""
        tried = Tried(self.name, self.sent, self.refused, "" if self.sent or self.refused else self.impossible or "not its turn")
        self.sent = self.refused = 0
        self.impossible = ""
        return tried


def whose(packet: Packet, probes: Iterable[Probe]) -> str:
    """Return the name of the probe that sent a packet; "" when it is not ours."""
    there = (packet.protocol, packet.target, packet.target_port)
    for probe in probes:
        if (probe.word and probe.word in packet.payload) or (probe.goes_to is not None and probe.goes_to == there):
            return probe.name
    return ""


class Words:
    """Gives each probe its own recognisable words and port."""

    def __init__(self) -> None:
        self._run = os.urandom(3).hex()
        self._count = 0

    def next(self) -> tuple[bytes, int]:
        """Return a payload and a port that no other probe of this run has."""
        self._count += 1
        return TOKEN + f"{self._run}:{self._count:03d};".encode(), 33000 + self._count

    def label(self) -> tuple[str, bytes]:
        """Return a name to look up that no cache knows, and the label of it that a query carries."""
        self._count += 1
        label = f"failshut-verify-{self._run}-{self._count:03d}"
        return f"{label}.example.com", label.encode()


def ways_out(ground: Ground, inside: Iterable[Address], words: Words, *, frames: bool = True) -> list[Probe]:
    """Return a probe of each kind: UDP, TCP and ICMP, unbound, by each device, from each tunnel address; and raw frames.

    `inside` are the tunnels' own addresses. Without `frames` those are named, and not sent.
    """
    carrying = [each.name for each in ground.devices if each.carrying]
    inner = list(inside)
    found: list[Probe] = []
    for version, target in FAR.items():
        for kind in ("udp", "tcp", "icmp"):
            found.append(_probe(kind, target, words, "", None))
            found += [_probe(kind, target, words, f" by {device}", partial(bind_to, device=device)) for device in carrying]
            found += [
                _probe(kind, target, words, f" from {address}", partial(_bind_inside, address=address))
                for address in inner
                if address.version == version
            ]
        raw = _raw if frames else _unseen
        found += [raw(each, target, ground, words) for each in ground.devices if each.carrying]
    return found


def programs(words: Words, targets: dict[int, Address]) -> list[Probe]:
    """Return programs that begin while the tunnel is up and go on when it is not: a connected UDP stream, uploads that begin."""
    found = []
    for version, target in targets.items():
        word, port = words.next()
        found.append(Probe(f"udp{version} stream", partial(_connected, target, port), partial(_say, data=word * 8), word=word))
    return found + [_probe("tcp", target, words, " begun again and again", None) for target in targets.values()]


def upload(target: Address, port: int, words: Words) -> Probe:
    """Return a TCP upload to a host that answers through the tunnel; it connects again when it breaks, as programs do."""
    word, _ = words.next()
    there = f"[{target}]:{port}" if target.version == 6 else f"{target}:{port}"
    return Probe(f"tcp{target.version} upload to {there}", partial(_stream, target, port), partial(_say, data=word * 20), word=word)


def controls(devices: Iterable[Device]) -> list[Probe]:
    """Return the capture's own control: an ARP request on each Ethernet device, which every lock admits and every tap must see."""
    found = []
    for device in devices:
        if device.carrying and device.ethernet:
            frame = craft.arp(1, device.mac, IPv4Address("0.0.0.0"), CONTROL)
            there = (device.name, ETHERTYPE_ARP, 0, 0, _BROADCAST)
            found.append(Probe(f"control by {device.name}", _packet_socket, partial(_send_to, data=frame, where=there)))
    return found


def questions(ground: Ground, resolvers: Iterable[Address], words: Words) -> list[Probe]:
    """Return raw DNS queries, by UDP and TCP, to each resolver, each gateway and documentation addresses, and by each device."""
    carrying = [each.name for each in ground.devices if each.carrying]
    far = [*FAR.values(), *OTHER_FAR.values()]
    targets: dict[Address, str] = {each: f"resolver {each}" for each in resolvers}
    for gateway, device in ground.gateways:
        scope = f"%{device}" if gateway.version == 6 and gateway.is_link_local else ""
        targets.setdefault(ip_address(f"{gateway}{scope}"), f"gateway {gateway}")
    targets |= {each: str(each) for each in far if each not in targets}
    found = []
    for target, name in targets.items():
        found += [_question(target, name, words), _question_tcp(target, name)]
        if not target.is_loopback:
            found += [_question(target, f"{name} by {device}", words, device) for device in carrying]
    return found


def _probe(kind: str, target: Address, words: Words, suffix: str, prepare: Callable[[socket.socket], object] | None) -> Probe:
    word, port = words.next()
    name = f"{kind}{target.version}{suffix}"
    there = (str(target), port)
    match kind:
        case "udp":
            make = partial(_made, target.version, socket.SOCK_DGRAM, 0, prepare)
            return Probe(name, make, partial(_send_to, data=word, where=there), word=word)
        case "tcp":
            make = partial(_made, target.version, socket.SOCK_STREAM, 0, prepare)
            return Probe(name, make, partial(_connect, where=there), fresh=True, goes_to=(TCP, target, port))
        case _:
            protocol = ICMP if target.version == 4 else ICMPV6
            make = partial(_made, target.version, socket.SOCK_RAW, protocol, prepare)
            return Probe(name, make, partial(_send_to, data=echo_request(target.version, word), where=(str(target), 0)), word=word)


def _question(target: Address, name: str, words: Words, device: str = "") -> Probe:
    host, label = words.label()
    prepare = partial(bind_to, device=device) if device else None
    make = partial(_made, target.version, socket.SOCK_DGRAM, 0, prepare)
    where = _where(target, 53)
    return Probe(f"dns to {name}", make, lambda sock: sock.sendto(dns_query(host), where), word=label)


def _question_tcp(target: Address, name: str) -> Probe:
    make = partial(_made, target.version, socket.SOCK_STREAM, 0, None)
    # A packet has no scope.
    plain = ip_address(str(target).partition("%")[0])
    return Probe(f"dns by tcp to {name}", make, partial(_connect, where=_where(target, 53)), fresh=True, goes_to=(TCP, plain, 53))


def _raw(device: Device, target: Address, ground: Ground, words: Words) -> Probe:
    word, port = words.next()
    own = sorted(each for each in ground.own.get(device.name, ()) if each.version == target.version)
    source = own[0] if own else ip_address("192.0.2.78" if target.version == 4 else "2001:db8:77::78")
    packet = craft.ip(source, target, UDP, craft.udp(source, target, (33000, port), word))
    there = (device.name, craft.ethertype_of(target), 0, 0, _BROADCAST)
    return Probe(_raw_name(device, target), _packet_socket, partial(_send_to, data=packet, where=there), word=word)


def _unseen(device: Device, target: Address, *_: object) -> Probe:
    """Return what is not tried, and says why."""

    def refused() -> socket.socket:
        raise OSError(errno.EOPNOTSUPP, "iptables holds nothing below IP")

    return Probe(_raw_name(device, target), refused, lambda _: None)


def _raw_name(device: Device, target: Address) -> str:
    return f"raw frame IPv{target.version} by {device.name}"


def _where(target: Address, port: int) -> tuple[str, int]:
    return str(target), port


def _made(version: int, kind: int, protocol: int, prepare: Callable[[socket.socket], object] | None) -> socket.socket:
    sock = socket.socket(family(version), kind, protocol)
    try:
        sock.setblocking(False)
        if prepare:
            prepare(sock)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_inside(sock: socket.socket, address: Address) -> None:
    """Bind to the tunnel's own address, also when it is no longer the machine's: what a program bound to it would send."""
    if address.version == 4:
        sock.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    sock.bind((str(address), 0))


def _connected(target: Address, port: int) -> socket.socket:
    sock = _made(target.version, socket.SOCK_DGRAM, 0, None)
    sock.connect((str(target), port))
    return sock


def _stream(target: Address, port: int) -> socket.socket:
    sock = _made(target.version, socket.SOCK_STREAM, 0, None)
    with contextlib.suppress(BlockingIOError):
        sock.connect((str(target), port))
    return sock


def _packet_socket() -> socket.socket:
    # Datagrams: the kernel writes the link's own header, also where it is not Ethernet's.
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)


def _say(sock: socket.socket, data: bytes) -> int:
    return sock.send(data)


def _send_to(sock: socket.socket, data: bytes, where: tuple[str, int] | tuple[str, int, int, int, bytes]) -> int:
    return sock.sendto(data, where)


def _connect(sock: socket.socket, where: tuple[str, int]) -> None:
    sock.connect(where)


def echo_request(version: int, word: bytes) -> bytes:
    """Return an ICMP echo request, as a raw socket takes it."""
    body = struct.pack(">BBHHH", 8 if version == 4 else 128, 0, 0, 7, 7) + word
    # The kernel fills in ICMPv6's checksum, and not ICMP's.
    return body[:2] + struct.pack(">H", craft.checksum(body)) + body[4:] if version == 4 else body

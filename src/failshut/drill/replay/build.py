"""A candidate's bytes: the packet itself, what opens its connection, and the other side's answers. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from failshut.audit.netfilter.words import ESTABLISHED, INVALID, RELATED
from failshut.drill.attacker import craft
from failshut.drill.replay.candidate import MOST, Candidate
from failshut.model.packet import ICMP, ICMPV6, TCP, UDP
from failshut.model.units import Address

SYN, RST, PSH, ACK = 0x02, 0x04, 0x08, 0x10
# Where a made connection's counting begins: the opener's, and the answerer's.
OPENER, ANSWERER = 5000, 9000
IDENTIFIER = 0x4653
# Queries of ICMP and ICMPv6 that open a connection, and their answers.
ANSWERED_BY = {4: {8: 0, 13: 14, 15: 16, 17: 18}, 6: {128: 129, 139: 140}}
_ERRORS = {4: (3, 4, 5, 11, 12), 6: tuple(range(1, 128))}
# IPv6 extension headers in their order, by nft's names: the number, and what follows the first two of their eight bytes. Padding;
# a route without stations (RFC 4727's type); a packet in one fragment.
EXTENSIONS: dict[str, tuple[int, bytes]] = {
    "hbh": (0, b"\x01\x04" + bytes(4)),
    "dst": (60, b"\x01\x04" + bytes(4)),
    "rt": (43, b"\xfd\x00" + bytes(4)),
    "frag": (44, bytes(2) + b"FSFS"),
}
_FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True, slots=True)
class Flow:
    """The two ends of a packet, as it travels. Ports are 0 where there are none."""

    source: Address
    target: Address
    protocol: int
    source_port: int = 0
    target_port: int = 0
    # Of ICMP, the type of the query that opens it.
    query: int = 0

    @property
    def back(self) -> Flow:
        """The other direction."""
        return Flow(self.target, self.source, self.protocol, self.target_port, self.source_port, self.query)

    @property
    def version(self) -> int:
        """Return 4 or 6."""
        return self.source.version


def flow_of(candidate: Candidate) -> Flow:
    """Return a candidate's two ends."""
    ports = (candidate.number("sport"), candidate.number("dport")) if candidate.has_ports else (0, 0)
    kind = candidate.number("icmp type") if candidate.is_ping else 0
    query = next((asked for asked, answered in ANSWERED_BY[candidate.family].items() if kind in (asked, answered)), 0)
    return Flow(candidate.source, candidate.target, candidate.protocol, *ports, query)


def packet(candidate: Candidate, token: bytes, flow: Flow | None = None, counters: tuple[int, int] | None = None) -> bytes:
    """Return the candidate as an IP packet that carries the token, as long as the candidate is.

    `flow` and `counters` (sequence, acknowledgement) are its connection's where that is not what the candidate says.
    """
    flow = flow or flow_of(candidate)
    counters = counters or ((ANSWERER + 1, OPENER + 1) if candidate.is_reply else (OPENER + 1, ANSWERER + 1))
    made = _packet(candidate, token, flow, counters)
    lacking = min(candidate.length, MOST) - len(made)
    return _packet(candidate, token + b"." * lacking, flow, counters) if lacking > 0 else made


def frame_body(candidate: Candidate, token: bytes) -> bytes:
    """Return what a frame that carries no IP says."""
    return token.ljust(max(46, min(candidate.length, MOST) - 14), b".")


def _packet(candidate: Candidate, token: bytes, flow: Flow, counters: tuple[int, int]) -> bytes:
    offset = candidate.number("ip frag-off") & _FRAGMENT_OFFSET
    if candidate.number("later fragment"):
        body = token.ljust(64, b".")
        offset = offset or 8
    else:
        body = _transport(candidate, flow, token, counters)
        offset = 0
    hops = candidate.number("hop limit") or 64
    if candidate.family == 4:
        more = candidate.number("ip frag-off") & ~_FRAGMENT_OFFSET
        tos = candidate.number("ip dscp") << 2
        return craft.ipv4(flow.source, flow.target, flow.protocol, body, fragment=more | offset, ttl=hops, tos=tos)
    if candidate.number("later fragment"):
        head = struct.pack(">BBHI", flow.protocol, 0, offset << 3, IDENTIFIER)
        return craft.ipv6(flow.source, flow.target, 44, head + body, hop_limit=hops)
    following, body = _extended(candidate, flow.protocol, body)
    return craft.ipv6(flow.source, flow.target, following, body, hop_limit=hops, tos=candidate.number("ip6 dscp") << 2)


def _extended(candidate: Candidate, protocol: int, body: bytes) -> tuple[int, bytes]:
    """Put the IPv6 extension headers that a rule asks for before a body; return the number of the first, and all of it."""
    for name, (number, usual) in reversed(EXTENSIONS.items()):
        if candidate.number(f"exthdr {name}"):
            asked = name == "rt" and "exthdr rt type" in candidate.start
            rest = bytes((candidate.number("exthdr rt type"),)) + usual[1:] if asked else usual
            protocol, body = number, bytes((protocol, 0)) + rest + body
    return protocol, body


def _transport(candidate: Candidate, flow: Flow, token: bytes, counters: tuple[int, int]) -> bytes:
    ports = (flow.source_port, flow.target_port)
    if flow.protocol == TCP:
        return craft.tcp(flow.source, flow.target, ports, tcp_flags(candidate), token, counters=counters)
    if flow.protocol == UDP:
        made = craft.udp(flow.source, flow.target, ports, token)
        # RFC 768: no datagram is shorter than its header, or longer than its packet; conntrack calls it invalid.
        wrong = candidate.number("udp length") or 4
        return made[:4] + struct.pack(">H", wrong) + made[6:] if candidate.state == INVALID else made
    if candidate.is_ping:
        return icmp(flow, candidate.number("icmp type"), candidate.number("icmp code"), _said(candidate, flow, token))
    if candidate.has_ports:
        return struct.pack(">HHII", *ports, 0, 0) + token
    return struct.pack(">BBH", candidate.number("icmp type"), candidate.number("icmp code"), 0) + bytes(4) + token


def tcp_flags(candidate: Candidate) -> int:
    """Return the flags that a rule asks for, or those that give the packet its state."""
    if asked := candidate.number("tcp flags"):
        return asked
    if candidate.state in (ESTABLISHED, RELATED):
        return PSH | ACK
    # The answer to a connection that nobody opened.
    return SYN | ACK if candidate.state == INVALID else SYN


def _said(candidate: Candidate, flow: Flow, token: bytes) -> bytes:
    """Return what follows an ICMP message's first 8 bytes: the token, or behind the head of the packet that an error is about."""
    if candidate.number("icmp type") not in _ERRORS[flow.version]:
        return token
    about = complained_of(flow)
    inner = craft.udp(about.source, about.target, (about.source_port, about.target_port), token)
    return craft.ip(about.source, about.target, UDP, inner)


def complained_of(flow: Flow) -> Flow:
    """Return the flow that an ICMP error of ours is about: a datagram that came from where the error goes."""
    return Flow(flow.target, flow.source, UDP, 40001, 40002)


def icmp(flow: Flow, kind: int, code: int, body: bytes) -> bytes:
    """Return an ICMP or ICMPv6 message with the lab's identifier."""
    message = struct.pack(">BBHHH", kind, code, 0, IDENTIFIER, 1) + body
    if flow.version == 6:
        return craft.icmp6(flow.source, flow.target, message)
    return message[:2] + struct.pack(">H", craft.checksum(message)) + message[4:]


def opening(flow: Flow, token: bytes) -> bytes:
    """Return the first packet of a flow."""
    return _plain(flow, SYN, (OPENER, 0), token)


def acknowledgement(flow: Flow, sequence: int, acknowledged: int) -> bytes:
    """Return the third packet of a TCP connection."""
    return _plain(flow, ACK, (sequence, acknowledged), b"")


def answer(flow: Flow, token: bytes, sequence: int = OPENER) -> bytes:
    """Return the answer to the first packet of a flow, `sequence` being that packet's; `flow` is the answer's direction."""
    return _plain(flow, SYN | ACK, (ANSWERER, sequence + 1), token, answers=True)


def _plain(flow: Flow, flags: int, counters: tuple[int, int], token: bytes, *, answers: bool = False) -> bytes:
    ports = (flow.source_port, flow.target_port)
    if flow.protocol == TCP:
        body = craft.tcp(flow.source, flow.target, ports, flags, b"", counters=counters)
    elif flow.protocol == UDP:
        body = craft.udp(flow.source, flow.target, ports, token)
    elif flow.protocol == (ICMP if flow.version == 4 else ICMPV6):
        kind = ANSWERED_BY[flow.version].get(flow.query, 0) if answers else flow.query
        body = icmp(flow, kind, 0, token)
    else:
        body = struct.pack(">HHII", *ports, 0, 0) + token
    return craft.ip(flow.source, flow.target, flow.protocol, body)

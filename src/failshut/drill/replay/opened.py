"""Bringing a connection into the state that a witness needs: by packets where packets can, else by an entry in the table."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED, RELATED
from failshut.drill.network.wait import pace, until
from failshut.drill.replay import sender
from failshut.drill.replay.build import ANSWERER, OPENER, Flow, acknowledgement, answer, complained_of, flow_of, opening
from failshut.drill.replay.candidate import Candidate
from failshut.drill.replay.conntrack import Conntrack
from failshut.drill.replay.network import Network, ports_of, sequence_of
from failshut.model.packet import TCP

_HELLO = b"the replay opens a connection"
PATIENCE = 0.4


@dataclass(slots=True)
class Opened:
    """How the connection came about; `sock` is a program's end of it, where one has it.

    `answers` is how the answerer's packets are addressed: to whom the opener was translated, if it was. `counters` are the sequence
    and acknowledgement numbers of the program's next segment.
    """

    how: str
    sock: socket.socket | None = None
    answers: Flow | None = None
    counters: tuple[int, int] | None = None

    def close(self) -> None:
        """Give the program's end up."""
        if self.sock is not None:
            self.sock.close()


def by_packets(net: Network, table: Conntrack, candidate: Candidate) -> Opened | None:
    """Open the witness' connection by real packets, as the routes stand; None when it did not come about."""
    flow = flow_of(candidate)
    net.hush()
    if candidate.way is Way.FORWARD:
        return _forwarded(net, table, candidate, flow)
    if candidate.way is not Way.OUTPUT:
        return None
    if candidate.is_reply:
        return _called(net, table, candidate, flow)
    return _called_out(net, table, candidate, flow)


def by_entry(table: Conntrack, candidate: Candidate) -> Opened | None:
    """Enter the witness' connection into the table; None when the kernel refuses it."""
    flow = flow_of(candidate)
    opener = flow.back if candidate.is_reply else flow
    if candidate.state == ESTABLISHED:
        taken = table.enter(opener, answered=True, mark=candidate.number("ct mark"))
        return Opened("its connection was entered into the connection table") if taken else None
    if candidate.is_ping:
        taken = table.enter(complained_of(flow), answered=False)
        return Opened("a datagram that it complains of was entered into the connection table") if taken else None
    master = Flow(opener.source, opener.target, TCP, 40003, 21)
    taken = table.enter(master, answered=True) and table.enter(opener, answered=False, master=master)
    return Opened("its connection, expected by another, was entered into the connection table") if taken else None


def needs_connection(candidate: Candidate) -> bool:
    """Whether the packet's state is that of a connection that must be there before it."""
    return bool(candidate.family) and candidate.way is not Way.FRAME and candidate.state in (ESTABLISHED, RELATED)


def _called_out(net: Network, table: Conntrack, candidate: Candidate, flow: Flow) -> Opened | None:
    """Have the machine open, and whoever is at the other end of the way answer."""
    if flow.protocol != TCP:
        sender.send_packet(net.machine, candidate, opening(flow, _HELLO))
        _answer_when_heard(net, flow, lambda: table.is_answered(flow))
        return Opened("", None) if table.is_answered(flow) else None
    try:
        sock = sender.connecting(net.machine, candidate, flow)
    except OSError:
        return None
    _, sequence = _answer_when_heard(net, flow, lambda: _is_connected(sock))
    if _is_connected(sock):
        return Opened("", sock, counters=(sequence + 1, ANSWERER + 1))
    sock.close()
    return None


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _answer_when_heard(net: Network, flow: Flow, done: Callable[[], bool]) -> tuple[Flow | None, int]:
    """Answer the flow's first packet where it comes out, until `done`.

    Return how the answer was addressed, and the first packet's sequence number.
    """
    answers: Flow | None = None
    sequence = OPENER
    end = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < end:
        for device in net.devices:
            for heard in net.heard(device):
                source, target, protocol, body = ports_of(heard)
                if (target, protocol) != (flow.target, flow.protocol):
                    continue
                # Answered as it came: somebody may have translated its source.
                port = int.from_bytes(body[:2], "big") if flow.source_port else 0
                seen = replace(flow, source=source, source_port=port)
                answers = seen.back
                sequence = sequence_of(body) if protocol == TCP else OPENER
                net.inject(device, answer(answers, _HELLO, sequence))
        pace(0.002)
    return answers, sequence


def _called(net: Network, table: Conntrack, candidate: Candidate, flow: Flow) -> Opened | None:
    """Somebody outside opens, and the machine answers."""
    caller, device = flow.back, candidate.last_device
    if flow.protocol != TCP:
        net.inject(device, opening(caller, _HELLO))
        if not candidate.is_ping:
            sender.send_packet(net.machine, candidate, answer(flow, _HELLO))
        return Opened("") if until(lambda: table.is_answered(caller), within=PATIENCE) else None
    try:
        listener = sender.listening(net.machine, candidate, flow)
    except OSError:
        return None
    with listener:
        net.inject(device, opening(caller, b""))
        heard = _first(net, flow)
        if heard is None:
            return None
        net.inject(device, acknowledgement(caller, OPENER + 1, sequence_of(heard) + 1))
        accepted: list[socket.socket] = []
        until(lambda: _accept(listener, accepted), within=PATIENCE)
    return Opened("", accepted[0], counters=(sequence_of(heard) + 1, OPENER + 1)) if accepted else None


def _accept(listener: socket.socket, accepted: list[socket.socket]) -> bool:
    try:
        accepted.append(listener.accept()[0])
    except OSError:
        return False
    return True


def _first(net: Network, flow: Flow) -> bytes | None:
    """Return what follows the IP header of the flow's first packet to come out anywhere, in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for device in net.devices:
            for heard in net.heard(device):
                source, target, protocol, body = ports_of(heard)
                if (target, protocol) == (flow.target, flow.protocol) and source == flow.source:
                    return body
        pace(0.005)
    return None


def _forwarded(net: Network, table: Conntrack, candidate: Candidate, flow: Flow) -> Opened | None:
    """Both ends are outside: one opens, the other answers, the machine forwards."""
    inside, outside = candidate.device("iifname"), candidate.last_device
    opener, enters = (flow.back, outside) if candidate.is_reply else (flow, inside)
    net.inject(enters, opening(opener, _HELLO))
    answers, _ = _answer_when_heard(net, opener, lambda: table.is_answered(opener))
    if not table.is_answered(opener):
        return None
    if flow.protocol == TCP:
        net.inject(enters, acknowledgement(opener, OPENER + 1, ANSWERER + 1))
    return Opened("", answers=answers if candidate.is_reply else None)

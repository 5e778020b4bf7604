"""The lab with the ruleset loaded: a packet's situation is brought about in it, and the packet is sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED, INVALID, UNTRACKED
from failshut.drill.network.capture import Capture
from failshut.drill.network.wait import until
from failshut.drill.replay import network, sender
from failshut.drill.replay.build import flow_of, frame_body, opening, packet
from failshut.drill.replay.candidate import STATE_NAMES, Candidate
from failshut.drill.replay.conntrack import Conntrack
from failshut.drill.replay.opened import Opened, by_entry, by_packets, needs_connection
from failshut.drill.replay.rules import Rules
from failshut.model.packet import Captured

# How often a packet is sent before it counts as held back (a limiter lets some through), and how long each is awaited, in seconds.
TRIES = ((1, 0.1), (3, 0.1), (40, 0.3))
_TABLE = "failshut_replay"
# linux/rtnetlink.h
RTN_BROADCAST = 3
_STATES = tuple(STATE_NAMES.values())


class RulesGoneError(Exception):
    """The ruleset could not be loaded again: nothing that is sent from here on would say anything of it."""


@dataclass(slots=True)
class Sent:
    """One packet: how its connection came about, what the kernel said against it, why it was not sent at all, what was seen."""

    how: str = ""
    refusal: str = ""
    failure: str = ""
    seen: tuple[Captured, ...] = ()


@dataclass(slots=True)
class Lab:
    """The built lab. Between two packets the ruleset is loaded, and nothing else."""

    net: network.Network
    rules: Rules
    table: Conntrack
    capture: Capture
    transit: tuple[str, ...] = ()

    @contextlib.contextmanager
    def without_rules(self) -> Iterator[None]:
        """Run a block on a machine without rules. Raises RulesGoneError when they can't be loaded again."""
        self.rules.unload(self.net.machine)
        try:
            yield
        finally:
            self.rules.unload(self.net.machine)
            if complaint := self.rules.load(self.net.machine):
                raise RulesGoneError(complaint)

    def send(self, candidate: Candidate, token: bytes, *, locked: bool, before: bool = False) -> Sent:
        """Bring about the packet's situation and send it, until it is seen or was tried often enough.

        With `before`, its connection is opened before the rules are loaded.
        """
        opened: Opened | None = None
        try:
            self.table.empty()
            self.net.setting(_base(candidate, self.net, locked=locked), candidate.family or 4)
            if not locked:
                self._track(candidate)
            opened = self._open(candidate, locked=locked, before=before) if needs_connection(candidate) else Opened("")
            if opened is None:
                return Sent(failure=f"its connection can't be {STATE_NAMES.get(candidate.state, 'opened')}")
            self._finish(candidate, locked=locked)
            return self._tried(candidate, token, opened)
        finally:
            if opened is not None:
                opened.close()
            if candidate.state == UNTRACKED and locked:
                self._forget_table()
            self.net.setting(_taken_back(candidate), candidate.family or 4)

    def _finish(self, candidate: Candidate, *, locked: bool) -> None:
        """Do what comes between the opening of a connection and the packet: its route is lost, its connection is marked."""
        self.net.setting([f"route flush table {network.TUNNELLED}"], candidate.family or 4)
        flow = flow_of(candidate) if candidate.family else None
        if flow and candidate.number("ct mark") and needs_connection(candidate):
            self.table.mark(flow.back if candidate.is_reply else flow, candidate.number("ct mark"))
        if candidate.state == UNTRACKED:
            self._add([], {"output": ["notrack"], "prerouting": ["notrack"]}, -400)
        if not locked:
            self.net.machine.do("nft", "reset", "counters", "table", "inet", _TABLE)

    def _tried(self, candidate: Candidate, token: bytes, opened: Opened) -> Sent:
        sent = Sent(opened.how)
        for times, patience in TRIES:
            sent.refusal = self._put(candidate, token, opened, times)
            if until(lambda: self.capture.saw(token) and bool(self._seen(candidate, token)), within=patience):
                break
        sent.seen = self._seen(candidate, token)
        return sent

    def _seen(self, candidate: Candidate, token: bytes) -> tuple[Captured, ...]:
        into_transit = candidate.last_device in self.transit
        there = (each for each in self.capture.holding(token) if (each.device in self.transit) is into_transit)
        return tuple(each for each in there if is_of(candidate, each))

    def _put(self, candidate: Candidate, token: bytes, opened: Opened, times: int) -> str:
        """Send the packet itself; return what the kernel said against it."""
        net = self.net
        if candidate.way is Way.FRAME:
            body = packet(candidate, token) if candidate.family else frame_body(candidate, token)
            return sender.send_frame(net.machine, candidate, net.devices[candidate.first_device], body, times)
        made = packet(candidate, token, opened.answers, opened.counters)
        if candidate.way is Way.FORWARD:
            for _ in range(times):
                net.inject(candidate.device("iifname"), made)
            return ""
        if candidate.is_reply and candidate.is_ping and not candidate.number("socket"):
            # The kernel itself answers, with what it was sent.
            net.inject(candidate.last_device, opening(flow_of(candidate).back, token))
            return ""
        if opened.sock is not None and candidate.is_plain:
            return sender.say(opened.sock, token, times)
        return sender.send_packet(net.machine, candidate, made, times)

    def _open(self, candidate: Candidate, *, locked: bool, before: bool) -> Opened | None:
        """Open the packet's connection: under the rules, else before they are loaded, else by an entry in the table."""
        way = "" if candidate.is_reply else "through the tunnel"
        for earlier in (before, True) if locked else (False,):
            opened = self._by_packets(candidate, before=earlier, way=way)
            if opened is not None:
                when = " before the rules were loaded" if earlier else ""
                then = ", and the tunnel's route was lost" if way else ""
                opened.how = f"its connection was opened {way or 'from outside'}{when}{then}"
                return opened
        return by_entry(self.table, candidate)

    def _by_packets(self, candidate: Candidate, *, before: bool, way: str) -> Opened | None:
        if candidate.state != ESTABLISHED:
            return None
        self.table.empty()
        if way:
            route = f"route replace {candidate.target} dev {self.net.tunnel} table {network.TUNNELLED}"
            self.net.setting([route], candidate.family)
        if not before:
            return by_packets(self.net, self.table, candidate)
        with self.without_rules():
            self._track(candidate)
            return by_packets(self.net, self.table, candidate)

    def _track(self, candidate: Candidate) -> None:
        """Have the kernel track connections without a rule that judges, and count what it calls the witness."""
        family = "ip" if candidate.target.version == 4 else "ip6"
        rules = [f"{family} daddr {candidate.target} ct state {each} counter name {each}_seen" for each in _STATES]
        self._add([f"counter {each}_seen {{ }}" for each in _STATES], {"output": rules, "forward": rules}, -150)

    def _add(self, objects: list[str], chains: dict[str, list[str]], priority: int) -> None:
        lines = [f"table inet {_TABLE} {{", *objects]
        for hook, rules in chains.items():
            lines += [f"chain at_{hook}_{-priority} {{", f"type filter hook {hook} priority {priority};", *rules, "}"]
        self.net.machine.do("nft", "-f", "-", stdin="\n".join([*lines, "}", ""]))

    def _forget_table(self) -> None:
        self.net.machine.run("nft", "delete", "table", "inet", _TABLE)

    def state_without_rules(self, candidate: Candidate) -> str | None:
        """Return what the kernel called the packet in the run without rules, where that is not what the witness says."""
        if candidate.way is Way.FRAME or not candidate.family:
            return None
        listed = json.loads(self.net.machine.do("nft", "-j", "list", "counters", "table", "inet", _TABLE))["nftables"]
        counts = {each["counter"]["name"]: each["counter"]["packets"] for each in listed if "counter" in each}
        wanted = STATE_NAMES[candidate.state]
        if counts.get(f"{wanted}_seen"):
            return None
        others = [name.removesuffix("_seen") for name, count in counts.items() if count]
        if candidate.state == INVALID and not others:
            return None
        return f"{' or '.join(others) or 'nothing'}, not {wanted}"


def is_of(candidate: Candidate, captured: Captured) -> bool:
    """Whether a captured frame is the packet itself, and no error message that quotes it."""
    said = captured.packet
    if not candidate.family:
        return said.protocol is None
    if said.protocol != candidate.protocol:
        return False
    return not candidate.is_ping or said.icmp_type == candidate.number("icmp type") or said.is_fragment


def _base(candidate: Candidate, net: network.Network, *, locked: bool) -> Iterator[str]:
    """Yield the `ip` lines by which the packet's addresses are where it needs them, and its routes lead to its devices.

    Without rules nothing re-routes it, and its first route is its last.
    """
    if not candidate.family:
        return
    source, target = candidate.source, candidate.target
    inside = candidate.device("iifname")
    if candidate.way is Way.FORWARD and not net.devices[inside].is_tunnel:
        yield from _neighbour(net, source, inside)
    if candidate.way is Way.FORWARD:
        yield f"route replace {source} dev {inside} table {network.PLAIN}"
    elif candidate.way is Way.OUTPUT and not source.is_multicast and not source.is_unspecified:
        yield f"address add {source}/{source.max_prefixlen} dev {candidate.last_device} noprefixroute"
    for address in dict.fromkeys((target, candidate.last_target)):
        device = candidate.first_device if address == target and locked else candidate.last_device
        yield f"route replace {address} dev {device} table {network.PLAIN}"
        for each in dict.fromkeys((device, candidate.last_device)):
            if each in net.devices and not net.devices[each].is_tunnel:
                yield from _neighbour(net, address, each)
    if _is_broadcast(candidate):
        # What kind an address is of is the local table's to say.
        yield f"route replace broadcast {target} dev {candidate.last_device} table local"
    if candidate.last_device != candidate.first_device and candidate.last_mark != candidate.number("mark"):
        yield from _routed_anew(candidate)


def _routed_anew(candidate: Candidate) -> Iterator[str]:
    # With its mask: a mark that was taken away is one, too.
    yield f"rule add pref {network.RE_ROUTED} fwmark {candidate.last_mark:#x}/0xffffffff lookup {network.RE_ROUTED}"
    for address in dict.fromkeys((candidate.target, candidate.last_target)):
        yield f"route replace {address} dev {candidate.last_device} table {network.RE_ROUTED}"


def _is_broadcast(candidate: Candidate) -> bool:
    """Whether a rule asks for an address that is a network's broadcast, and the packet's is: everybody's is one anyway."""
    asked = any(value == RTN_BROADCAST for name, value in candidate.start.items() if name.startswith("fib daddr"))
    return asked and candidate.family == 4 and str(candidate.target) != "255.255.255.255"


def _neighbour(net: network.Network, address: object, device: str) -> Iterator[str]:
    # Known beforehand: whether the rules let the machine ask for it is another question.
    yield f"neigh replace {address} lladdr {net.devices[device].far_mac} dev {device} nud permanent"


def _taken_back(candidate: Candidate) -> Iterator[str]:
    if not candidate.family:
        return
    source = candidate.source
    yield f"route flush table {network.PLAIN}"
    yield f"route flush table {network.RE_ROUTED}"
    yield f"rule delete pref {network.RE_ROUTED}"
    if _is_broadcast(candidate):
        yield f"route delete broadcast {candidate.target} dev {candidate.last_device} table local"
    if candidate.way is Way.OUTPUT:
        yield f"address delete {source}/{source.max_prefixlen} dev {candidate.last_device}"

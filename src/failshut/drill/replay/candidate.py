"""A witness as the lab takes it: plain numbers, and what a sender can and can't make of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from failshut.audit.answer.result import Witness
from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED, INVALID, NEW, RELATED, UNTRACKED
from failshut.model.packet import ETHERTYPE_ARP, ICMP, ICMPV6, TCP, UDP
from failshut.model.units import Address

STATE_NAMES = {NEW: "new", ESTABLISHED: "established", RELATED: "related", INVALID: "invalid", UNTRACKED: "untracked"}
# What the lab's packet has as the witness has it.
_MADE = frozenset(
    {
        *("mark", "ct mark", "ct state", "ct direction", "first", "l4proto", "sport", "dport", "icmp type", "icmp code"),
        *("ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "skuid", "skgid", "socket", "hop limit", "tcp flags"),
        *("oifname", "oifname rerouted", "iifname", "later fragment", "ip frag-off", "ip dscp", "ip6 dscp", "priority"),
        *("ethertype", "ether daddr", "ether saddr", "nfproto", "ip version", "ip6 version"),
        *("exthdr hbh", "exthdr dst", "exthdr rt", "exthdr frag", "exthdr rt type"),
    }
)
_EXTENSION_NUMBERS = (0, 43, 44, 60)
_LENGTHS = frozenset({"length", "ip length", "ip6 length", "udp length"})
# How long the token is that a packet is recognised by, and what is within a device's MTU; in bytes.
TOKEN, MOST = 12, 1400
# What the kernel answers, or what a rule writes: nobody sends it.
_FOUND_OUT = ("nat ", "written ", "mark at ", "ct mark at ", "fib ", "early ", "routed anew")
_UNMAKEABLE = {"cgroup": "a control group of net_cls, which belongs to the whole machine", "via": "a packet out of a kernel tunnel"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One packet to be sent: `start` as it sets out, `end` as it leaves; addresses are numbers, devices names."""

    way: Way
    family: int
    start: Mapping[str, int | str]
    end: Mapping[str, int | str]

    def number(self, name: str) -> int:
        """Return a field of the packet as it sets out; 0 when nobody asks for it."""
        value = self.start.get(name, 0)
        return value if isinstance(value, int) else 0

    def device(self, name: str) -> str:
        """Return a device of the packet as it sets out."""
        value = self.start.get(name, "")
        return value if isinstance(value, str) else ""

    @property
    def state(self) -> int:
        """What connection tracking calls it."""
        return self.number("ct state")

    @property
    def is_reply(self) -> bool:
        """Whether its connection was opened by the other side."""
        return self.number("ct direction") == 1

    @property
    def protocol(self) -> int:
        """The transport protocol's number."""
        return self.number("l4proto")

    @property
    def has_ports(self) -> bool:
        """Whether connections of its protocol are told apart by ports."""
        return self.protocol in (TCP, 17, 33, 132, 136)

    @property
    def is_ping(self) -> bool:
        """Whether it is ICMP of its own family."""
        return self.protocol == (ICMP if self.family == 4 else ICMPV6)

    @property
    def source(self) -> Address:
        """Who sends."""
        return self._address(self.start, "saddr")

    @property
    def target(self) -> Address:
        """To whom."""
        return self._address(self.start, "daddr")

    @property
    def last_target(self) -> Address:
        """To whom after translation."""
        return self._address(self.end, "daddr")

    @property
    def first_device(self) -> str:
        """Where the first route leads."""
        return self.device("oifname")

    @property
    def last_device(self) -> str:
        """By which device it leaves."""
        value = self.end.get("oifname", "")
        return value if isinstance(value, str) and value else self.first_device

    @property
    def last_mark(self) -> int:
        """The mark that it leaves with."""
        value = self.end.get("mark", 0)
        return value if isinstance(value, int) else 0

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that it needs."""
        return tuple(dict.fromkeys(each for each in (self.first_device, self.last_device, self.device("iifname")) if each))

    def _address(self, packet: Mapping[str, int | str], end: str) -> Address:
        value = packet.get(f"{'ip' if self.family == 4 else 'ip6'} {end}", 0)
        number = value if isinstance(value, int) else 0
        return IPv4Address(number) if self.family == 4 else IPv6Address(number)

    @property
    def _is_known(self) -> bool:
        """Whether its connection was translated, if at all, before any rule could be asked about the packet."""
        return self.state == ESTABLISHED or (self.state == NEW and not self.number("first"))

    @property
    def _is_moved(self) -> bool:
        return self.last_target != self.target or (self.has_ports and self.end.get("dport", 0) != self.number("dport"))

    @property
    def is_plain(self) -> bool:
        """Whether a program's own TCP socket sends such packets: of usual length, flags and headers."""
        usual = {"hop limit": (0, 64), "tcp flags": (0, 0x10, 0x18)}
        asked = (
            "ip dscp",
            "ip6 dscp",
            "ip frag-off",
            "later fragment",
            *(each for each in self.start if each.startswith("exthdr ")),
        )
        odd = [each for each in asked if self.number(each)]
        return not odd and not self.length and all(self.number(name) in values for name, values in usual.items())

    @property
    def length(self) -> int:
        """How long the IP packet is to be, in bytes; 0 when nobody asks."""
        head = 20 if self.family == 4 else 40
        if body := self.number("ip6 length"):
            return body + head
        if (body := self.number("udp length")) and self.protocol == UDP and self.state != INVALID:
            return body + head
        return self.number("ip length") or self.number("length")

    @property
    def _least(self) -> int:
        return (20 if self.family == 4 else 40) + (20 if self.protocol == TCP else 8) + TOKEN

    def not_made(self) -> str:
        """Return what of the witness the lab's packet lacks, in words; empty when it has everything."""
        return "; ".join(dict.fromkeys((*self._lengths_not_made(), *self._not_made())))

    def left_without(self) -> str:
        """Return what a packet that was seen lacks. Its length was of no account, as it was seen."""
        return "; ".join(dict.fromkeys(self._not_made()))

    def _lengths_not_made(self) -> Iterator[str]:
        for name in sorted(_LENGTHS & self.start.keys()):
            not_asked = name == "udp length" and not self.length
            if self.number(name) and not not_asked and not self._least <= self.length <= MOST:
                yield f"{name} {self.number(name)}"

    def _not_made(self) -> Iterator[str]:
        for name, value in self.start.items():
            if not value or name in _MADE or name.startswith(_FOUND_OUT):
                continue
            if name == "ip6 nexthdr" and value in (self.protocol, *_EXTENSION_NUMBERS):
                continue
            # Five words are a header without options, as it is sent.
            if name in _LENGTHS or (name == "ip hdrlength" and value == 5):
                continue
            if name.startswith("arp ") and self.number("ethertype") != ETHERTYPE_ARP:
                continue
            yield "a control group" if name.startswith("socket cgroupv2") else _UNMAKEABLE.get(name, f"{name} {value}")
        if self.way is Way.OUTPUT and not self.number("socket") and not (self.is_reply and self.is_ping):
            yield "a packet that belongs to no program"
        if self.family and self._is_known and self._is_moved:
            yield f"a connection that was translated to {self.last_target}, port {self.end.get('dport', 0)}, before"
        if self.way is Way.FORWARD and self.number("mark"):
            yield "a mark that comes in from outside"


def candidates_of(witnesses: Iterable[Witness]) -> tuple[Candidate, ...]:
    """Return witnesses as the lab takes them."""
    return tuple(Candidate(each.way, each.family, dict(each.packet), dict(each.fate.end)) for each in witnesses)

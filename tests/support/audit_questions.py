"""The questions of the collection of published kill switches, in the audit's own words, and how its rulesets are read."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED, NEW
from failshut.audit.predicate import All, FieldIn, Not, Predicate, When, among, both, either, equals
from failshut.audit.world import DADDR, IIF, OIF, SADDR
from failshut.model.ruleset import Family, Payload, Ruleset
from failshut.model.units import Prefix
from failshut.read.files.joined import joined
from failshut.read.iptables import read_save
from failshut.read.nft.json import read_json
from failshut.read.nft.text import read_text

TUNNELS = ("lo", "wg*", "tun*", "tap*", "pvpn*", "proton*", "ipv6leakintrf*")
PUBLIC = {4: ip_network("198.18.5.0/24"), 6: ip_network("2001:db8:beef::/48")}
LAN: dict[int, Prefix] = {4: ip_network("192.168.1.0/24"), 6: ip_network("fe80::/10")}
ENDPOINT = {4: ip_network("203.0.113.7/32")}


# A program that nothing was promised to: no mark, no control group of its own, and its connections bear no mark either.
ORDINARY = (
    *(FieldIn(name, 32, (0,)) for name in ("mark", "cgroup", "ct mark")),
    *(FieldIn(name, 32, (1000,)) for name in ("skuid", "skgid")),
    FieldIn("socket", 1, (1,)),
)


@dataclass(frozen=True)
class Question:
    """A packet that may exist or not."""

    way: Way
    says: Predicate


def out(*parts: Predicate, state: int = NEW, ordinary: bool = True) -> Question:
    underlay = Not(among(OIF, TUNNELS))
    plain = ORDINARY
    states = [FieldIn("ct state", 32, (state,)), FieldIn("first", 1, (int(state == NEW),))]
    return Question(Way.OUTPUT, All((underlay, *states, *(plain if ordinary else ()), *parts)))


def tcp(port: int) -> Predicate:
    return equals(Payload("tcp", "dport"), port, When.START)


def udp(port: int) -> Predicate:
    return equals(Payload("udp", "dport"), port, When.START)


def to(prefix: Prefix) -> Predicate:
    return among(DADDR[prefix.version], (prefix,))


def questions(family: int) -> dict[str, Question]:
    public, lan = to(PUBLIC[family]), to(LAN[family])
    echo = Payload("icmp", "type") if family == 4 else Payload("icmpv6", "type")
    # A DHCP client's own port is no port that a VPN has.
    requested = both(udp(67), Not(equals(Payload("udp", "sport"), 68, When.START)))
    vpn = either(udp(51820), udp(1194), udp(1198), tcp(1194), requested, equals(Payload("tcp", "sport"), 22, When.START))
    ports = either(vpn, equals(Payload("tcp", "sport"), 8080, When.START))
    found = {
        "NEWany": out(tcp(443), public),
        "ANYnew": out(public),
        "EST": out(tcp(443), public, state=ESTABLISHED),
        "DNSpub": out(udp(53), public),
        "DNSlan": out(udp(53), lan),
        "LANany": out(tcp(8123), lan),
        "ICMP": out(equals(echo, "echo-request", When.START), public),
        "portonly": out(ports, public),
        "uid/mark": out(tcp(443), public, ordinary=False),
        "FWD": forwarded(public),
    }
    if family == 4:
        found["EPany"] = out(tcp(443), to(ENDPOINT[4]))
        found |= needs()
    return found


def forwarded(public: Predicate) -> Question:
    through = (equals(IIF, "docker0", When.START), equals(OIF, "eth0", When.START), FieldIn("first", 1, (1,)))
    return Question(Way.FORWARD, both(*through, FieldIn("ct state", 32, (NEW,)), FieldIn("mark", 32, (0,)), tcp(443), public))


def needs() -> dict[str, Question]:
    ports = either(*(udp(each) for each in (51820, 1194, 1198)))
    answer = either(*(equals(Payload("udp", "sport"), each, When.START) for each in (51820, 1194, 1198)))
    from_endpoint = both(among(SADDR[4], (ENDPOINT[4],), When.START), answer, FieldIn("ct state", 32, (ESTABLISHED,)))
    sender = either(FieldIn("socket", 1, (0,)), FieldIn("skuid", 32, (0, 1000)))
    new = (FieldIn("ct state", 32, (NEW,)), *ORDINARY)
    return {
        "P2hs": out(ports, to(ENDPOINT[4]), sender, ordinary=False),
        "P2hsin": Question(Way.INPUT, both(equals(IIF, "eth0", When.START), from_endpoint)),
        "P2lo": Question(Way.OUTPUT, both(equals(OIF, "lo"), tcp(8123), *new)),
        "P2tun": Question(Way.OUTPUT, both(among(OIF, TUNNELS[1:]), tcp(443), to(PUBLIC[4]), *new)),
    }


def files_of(folder: Path) -> list[Path]:
    """Return what a user would hand to the audit: what iptables saved where iptables was used, else what nft lists."""
    saves = [folder / each for each in ("loaded.v4.save", "loaded.v6.save") if (folder / each).exists()]
    listed = [folder / each for each in ("loaded.nft", "loaded.nft.json") if (folder / each).exists()]
    return saves if saves and not (folder / "origin.nft").exists() else listed[:1]


def load(folder: Path) -> Ruleset:
    """Everything that the kernel held: iptables' rules by iptables-save, the others by nft."""
    saved = [
        read_save((folder / name).read_text(), name, family).ruleset
        for name, family in (("loaded.v4.save", Family.IP), ("loaded.v6.save", Family.IP6))
        if (folder / name).exists()
    ]
    nft = folder / "loaded.nft"
    if nft.exists():
        listed = read_text(nft.read_text(), nft.name).ruleset
    else:
        listed = read_json((folder / "loaded.nft.json").read_text(), "loaded.nft.json").ruleset
    return joined(listed, saved)

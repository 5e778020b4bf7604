"""nft's matches: every left side, every kind of right side, and what an operator that is left out means."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from failshut.model.ruleset import (
    AnySet,
    Binary,
    BitOp,
    Concat,
    Ct,
    Exthdr,
    Fib,
    HeaderOption,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    RawPayload,
    Rt,
    SetRef,
    Socket,
    Tuple,
    UnknownMatch,
    Verdict,
    masked,
)
from failshut.read.nft.text import read_text

STATE, FLAGS, MARK = Ct("state"), Payload("tcp", "flags"), Meta("mark")
DADDR, DPORT = Payload("ip", "daddr"), Payload("tcp", "dport")
A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9")

MATCHES = {
    # Flags: no operator is a test of any bit, `!=` is not its opposite, and a set is exact.
    "ct state established": Match(STATE, "established", Op.IN),
    "ct state established,related": Match(STATE, AnySet(("established", "related")), Op.IN),
    "ct state == established": Match(STATE, "established"),
    "ct state != established": Match(STATE, "established", Op.NE),
    "ct state != established,related": Match(STATE, 6, Op.NE),
    "ct state ! established,related": Match(STATE, AnySet(("established", "related")), Op.NOT_IN),
    "ct state { established, new }": Match(STATE, AnySet(("established", "new"))),
    "ct state { established }": Match(STATE, "established"),
    "ct state != { established, new }": Match(STATE, AnySet(("established", "new")), Op.NE),
    "ct state & (established | new) != 0": Match(masked(STATE, 10), 0, Op.NE),
    "tcp flags syn": Match(FLAGS, "syn", Op.IN),
    "tcp flags syn | ack": Match(FLAGS, AnySet(("syn", "ack")), Op.IN),
    "tcp flags == syn": Match(FLAGS, "syn"),
    "tcp flags & (fin|syn|rst|ack) == syn": Match(masked(FLAGS, 0x17), 2),
    "tcp flags & (fin|syn) syn": Match(masked(FLAGS, 3), 2),
    "tcp flags syn / fin,syn,rst,ack": Match(masked(FLAGS, 0x17), 2),
    "tcp flags != syn / fin,syn": Match(masked(FLAGS, 3), 2, Op.NE),
    "tcp flags { syn | ack, syn }": Match(FLAGS, AnySet((0x12, "syn"))),
    "ct status dnat": Match(Ct("status"), "dnat", Op.IN),
    # Devices: a name, a prefix of names, and a star that is none; an index.
    'oifname "eth*"': Match(Meta("oifname"), "eth*"),
    'oifname "eth\\*"': Match(Meta("oifname"), "eth\\*"),
    'oifname != { "eth0", wlan0 }': Match(Meta("oifname"), AnySet(("eth0", "wlan0")), Op.NE),
    "meta iifname lo": Match(Meta("iifname"), "lo"),
    "oif != lo": Match(Meta("oif"), "lo", Op.NE),
    "oif 3": Match(Meta("oif"), 3),
    "oifgroup default": Match(Meta("oifgroup"), "default"),
    # Without `meta`, by another name, by number.
    "mark 0x1": Match(MARK, 1),
    "meta mark 010": Match(MARK, 8),
    "meta mark & 0xff == 0x1": Match(masked(MARK, 0xFF), 1),
    "meta mark and 0xff != 1-5": Match(masked(MARK, 0xFF), Range(1, 5), Op.NE),
    "ct mark & 0xff000000 >> 24 eq 3": Match(Binary(BitOp.AND, Ct("mark"), 0xFF000000 >> 24), 3),
    "(ct mark >> 24) & 0xf == 3": Match(Binary(BitOp.AND, Binary(BitOp.RIGHT, Ct("mark"), 24), 15), 3),
    "skuid root": Match(Meta("skuid"), 0),
    "meta skuid 1000-2000": Match(Meta("skuid"), Range(1000, 2000)),
    'skuid "debian-tor"': Match(Meta("skuid"), "debian-tor"),
    "meta skgid { 5, users }": Match(Meta("skgid"), AnySet((5, "users"))),
    "meta l4proto icmpv6": Match(Meta("l4proto"), "ipv6-icmp"),
    "meta l4proto 6": Match(Meta("l4proto"), "tcp"),
    "meta l4proto { tcp, gre }": Match(Meta("l4proto"), AnySet(("tcp", 47))),
    "meta nfproto ipv4": Match(Meta("nfproto"), "ipv4"),
    "meta length > 100": Match(Meta("length"), 100, Op.GT),
    "meta pkttype { host, multicast }": Match(Meta("pkttype"), AnySet(("host", "multicast"))),
    'meta hour "08:00"-"17:00"': Match(Meta("hour"), Range("08:00", "17:00")),
    "ct expiration > 1m30s": Match(Ct("expiration"), 90, Op.GT),
    # Addresses and ports.
    "ip daddr 192.0.2.1": Match(DADDR, A),
    "ip daddr 192.0.2.1/32": Match(DADDR, A),
    "ip daddr 192.0.2.77/24": Match(DADDR, IPv4Network("192.0.2.0/24")),
    "ip daddr 192.0.2.1-192.0.2.9": Match(DADDR, Range(A, B)),
    "ip daddr 192.0.2.0-192.0.2.255": Match(DADDR, IPv4Network("192.0.2.0/24")),
    "ip daddr & 0.0.0.255 == 0.0.0.1": Match(masked(DADDR, 255), 1),
    "ip6 saddr fe80::/10": Match(Payload("ip6", "saddr"), IPv6Network("fe80::/10")),
    "ip daddr @lan": Match(DADDR, SetRef("lan")),
    "ip daddr != @lan": Match(DADDR, SetRef("lan"), Op.NE),
    "tcp dport ssh": Match(DPORT, 22),
    "tcp dport { ftp-data, 80-90, https }": Match(DPORT, AnySet((20, Range(80, 90), 443))),
    "tcp dport 80 - 90": Match(DPORT, Range(80, 90)),
    "ip daddr . tcp dport 192.0.2.1 . 22": Match(Concat((DADDR, DPORT)), Tuple((A, 22))),
    "ip daddr . tcp dport { 192.0.2.0/24 . 80-90, 192.0.2.1 . 22 }": Match(
        Concat((DADDR, DPORT)), AnySet((Tuple((IPv4Network("192.0.2.0/24"), Range(80, 90))), Tuple((A, 22))))
    ),
    "ct original ip daddr 192.0.2.1": Match(Ct("ip daddr", "original"), A),
    "ct direction reply": Match(Ct("direction"), "reply"),
    # Headers.
    "icmp type 8": Match(Payload("icmp", "type"), "echo-request"),
    "icmp type 42": Match(Payload("icmp", "type"), 42),
    "icmpv6 type { nd-neighbor-solicit, 148 }": Match(Payload("icmpv6", "type"), AnySet(("nd-neighbor-solicit", 148))),
    "ip dscp { cs1, 0x2f }": Match(Payload("ip", "dscp"), AnySet(("cs1", 47))),
    "ether type 0x0800": Match(Payload("ether", "type"), "ip"),
    "ether saddr 0:1:2:3:4:Ff": Match(Payload("ether", "saddr"), "00:01:02:03:04:ff"),
    "arp saddr ip 192.0.2.1": Match(Payload("arp", "saddr ip"), A),
    "@th,0,16 53": Match(Payload("th", "sport"), 53),
    "@th,16,16 53": Match(Payload("th", "dport"), 53),
    "@th,16,8 53": Match(RawPayload("th", 16, 8), 53),
    "rt type 0": Match(Exthdr("rt", "type"), 0),
    "rt ip nexthop 192.0.2.1": Match(Rt("nexthop", "ip"), A),
    "exthdr frag exists": Match(Exthdr("frag"), "exists"),
    "frag more-fragments 1": Match(Exthdr("frag", "more-fragments"), 1),
    "tcp option maxseg exists": Match(HeaderOption("tcp", "maxseg"), "exists"),
    "tcp option maxseg size 500-600": Match(HeaderOption("tcp", "maxseg", "size"), Range(500, 600)),
    # What the kernel knows besides.
    "fib daddr type local": Match(Fib(("daddr",), "type"), "local"),
    "fib iif . saddr oif missing": Match(Fib(("saddr", "iif"), "oif"), "missing"),
    "socket transparent 1": Match(Socket("transparent"), 1),
    'socket cgroupv2 level 2 "user.slice/x"': Match(Socket("cgroupv2", 2), "user.slice/x"),
}


def rule_of(text, family="inet"):
    reading = read_text(f"table {family} t {{\n\tchain c {{\n\t\t{text}\n\t}}\n}}\n", "t.nft")
    return reading, reading.ruleset.tables[0].chains[0].rules[0]


@pytest.mark.parametrize("text", MATCHES)
def test_a_match_means_what_nft_means_by_it(text):
    """Measured with `nft --debug=netlink` where the page of nft is silent."""
    reading, rule = rule_of(text + " accept")

    assert rule.statements == (MATCHES[text], Verdict.ACCEPT)
    assert reading.approximations == ()
    assert [each for each in reading.findings if "lan" not in each.message] == []


@pytest.mark.parametrize("text", ["ip daddr vpn.example.com", "ct label { here, there }"])
def test_a_name_that_only_the_machine_knows_may_match_or_not(text):
    """The rest of the rule stays what it is."""
    reading, rule = rule_of(text + " accept")

    assert rule.statements == (UnknownMatch(text), Verdict.ACCEPT)
    assert len(reading.approximations) == 1
    assert reading.findings == ()


def test_an_opaque_match_of_iptables_may_match_or_not():
    """nft prints the match's name and nothing of what it says."""
    reading, rule = rule_of('meta l4proto tcp xt match "multiport" counter packets 0 bytes 0 accept', "ip")

    assert rule.statements[1] == UnknownMatch("xt match multiport")
    assert rule.statements[-1] is Verdict.ACCEPT
    assert reading.approximations[0].place.line == 3

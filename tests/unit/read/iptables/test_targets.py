"""What targets of iptables do: verdicts, marks, translated addresses, copies."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from failshut.model.ruleset import (
    Assign,
    Binary,
    BitOp,
    Ct,
    Duplicate,
    Family,
    Log,
    Match,
    Meta,
    Nat,
    NatKind,
    Notrack,
    Payload,
    Queue,
    Range,
    Reject,
    Tproxy,
    Verdict,
    masked,
)
from iptables_rules import read, rules

TCP = Match(Meta("l4proto"), "tcp")
UDP = Match(Meta("l4proto"), "udp")
MARK, CONNECTION = Meta("mark"), Ct("mark")
ALL_BITS = 0xFFFFFFFF


def ways(text, table="filter", family=Family.IP, chain="OUTPUT"):
    """Return the statements of each rule that a line makes."""
    return [each.statements for each in rules(f"-A {chain} {text}", table, family)]


def kept(target, keep, value):
    return Binary(BitOp.XOR, masked(target, keep), value)


@pytest.mark.parametrize(
    ("text", "table", "statements"),
    [
        ("-j REJECT", "filter", [Reject()]),
        ("-j REJECT --reject-with icmp-admin-prohibited", "filter", [Reject("icmp", "admin-prohibited")]),
        ("-p tcp -j REJECT --reject-with tcp-reset", "filter", [TCP, Reject("tcp reset")]),
        ('-j LOG --log-prefix "[out] " --log-level debug --log-uid', "filter", [Log("[out] ", "debug", flags=("skuid",))]),
        ("-j LOG --log-level 4", "filter", [Log()]),
        ("-j NFLOG --nflog-group 7 --nflog-prefix x", "filter", [Log("x", group=7)]),
        ("-j NFQUEUE --queue-num 3 --queue-bypass", "filter", [Queue("3", frozenset({"bypass"}))]),
        ("-j TEE --gateway 10.0.0.1", "mangle", [Duplicate(IPv4Address("10.0.0.1"))]),
        ("-j MARK --set-mark 0x5", "mangle", [Assign(MARK, 5)]),
        ("-j MARK --set-mark 0x5/0x6", "mangle", [Assign(MARK, kept(MARK, ALL_BITS ^ 7, 5))]),
        ("-j MARK --set-xmark 0x5/0x6", "mangle", [Assign(MARK, kept(MARK, ALL_BITS ^ 6, 5))]),
        ("-j MARK --and-mark 0xf", "mangle", [Assign(MARK, masked(MARK, 0xF))]),
        ("-j MARK --or-mark 0x1", "mangle", [Assign(MARK, kept(MARK, ALL_BITS ^ 1, 1))]),
        ("-j MARK --xor-mark 0x1", "mangle", [Assign(MARK, Binary(BitOp.XOR, MARK, 1))]),
        ("-j CONNMARK --save-mark", "mangle", [Assign(CONNECTION, MARK)]),
        ("-j CONNMARK --restore-mark --mask 0xff", "mangle", [Assign(MARK, kept(MARK, 0xFFFFFF00, masked(CONNECTION, 0xFF)))]),
        ("-j CONNMARK --set-xmark 0x1/0xffffffff", "mangle", [Assign(CONNECTION, 1)]),
        ("-j DSCP --set-dscp-class EF", "mangle", [Assign(Payload("ip", "dscp"), "ef")]),
        ("-j CLASSIFY --set-class 1:20", "mangle", [Assign(Meta("priority"), 0x10020)]),
        ("-j CHECKSUM --checksum-fill", "mangle", []),
        ("-j NOTRACK", "raw", [Notrack()]),
        ("-j CT --notrack", "raw", [Notrack()]),
        ("-j CT --zone 7", "raw", [Assign(Ct("zone"), 7)]),
        ("-p tcp -j DNAT --to-destination 10.0.0.1:80-90", "nat", [TCP, Nat(NatKind.DNAT, IPv4Address("10.0.0.1"), Range(80, 90))]),
        ("-p tcp -j DNAT --to-destination :81 --random", "nat", [TCP, Nat(NatKind.DNAT, None, 81, flags=frozenset({"random"}))]),
        ("-p udp -j REDIRECT --to-ports 53", "nat", [UDP, Nat(NatKind.REDIRECT, None, 53)]),
        ("-j NETMAP --to 10.9.0.0/16", "nat", [Nat(NatKind.DNAT, IPv4Network("10.9.0.0/16"), flags=frozenset({"netmap"}))]),
    ],
)
def test_a_target_does_what_it_does(text, table, statements):
    """Arithmetic on marks is the kernel's: (old & ~mask) ^ value."""
    assert ways(text, table) == [tuple(statements)]


def test_sources_are_translated_on_the_way_out():
    """SNAT, MASQUERADE, and a NETMAP in POSTROUTING."""
    assert ways("-j SNAT --to-source 10.0.0.1-10.0.0.5", "nat", chain="POSTROUTING") == [
        (Nat(NatKind.SNAT, Range(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.5"))),)
    ]
    assert ways("-j MASQUERADE", "nat", chain="POSTROUTING") == [(Nat(NatKind.MASQUERADE),)]
    assert ways("-j NETMAP --to 10.9.0.0/16", "nat", chain="POSTROUTING")[0][0].kind is NatKind.SNAT
    assert ways("-p tcp -j DNAT --to-destination [2001:db8::1]:80", "nat", Family.IP6) == [
        (TCP, Nat(NatKind.DNAT, IPv6Address("2001:db8::1"), 80))
    ]


def test_a_transparent_proxy_takes_the_packet_or_drops_it():
    """TPROXY never lets a packet go on."""
    reading = read("-A PREROUTING -p tcp -j TPROXY --on-port 81 --on-ip 127.0.0.1 --tproxy-mark 0x1", table="mangle")

    taken, dropped = (each.statements for each in reading.ruleset.tables[0].chain("PREROUTING").rules)
    assert taken[-2:] == (Tproxy(address=IPv4Address("127.0.0.1"), port=81), Verdict.ACCEPT)
    assert dropped == (TCP, Verdict.DROP)

"""What rules of iptables mean: the kernel's semantics, also where they differ from nftables'."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from failshut.model.ruleset import (
    AnySet,
    Base,
    ChainType,
    Concat,
    Ct,
    Engine,
    Exthdr,
    Family,
    Fib,
    Hook,
    Jump,
    Limit,
    Match,
    Meta,
    Op,
    Payload,
    Range,
    RawPayload,
    Tuple,
    UnknownMatch,
    Verdict,
    masked,
)
from failshut.read.iptables import read_save
from iptables_rules import CHAINS, read, rules

TCP = Match(Meta("l4proto"), "tcp")
UDP = Match(Meta("l4proto"), "udp")
SOURCE, TARGET = Payload("tcp", "sport"), Payload("tcp", "dport")
FLAGS = Payload("tcp", "flags")
STATE, STATUS = Ct("state"), Ct("status")
MARK, CONNECTION = Meta("mark"), Ct("mark")
NOBODY = Match(Meta("skuid"), "missing")
ALL_BITS = 0xFFFFFFFF


def ways(text, table="filter", family=Family.IP, chain="OUTPUT"):
    """Return the statements of each rule that a line makes."""
    return [each.statements for each in rules(f"-A {chain} {text}", table, family)]


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("-s 10.0.0.0/8", [Match(Payload("ip", "saddr"), IPv4Network("10.0.0.0/8"))]),
        ("-s 10/8", [Match(Payload("ip", "saddr"), IPv4Network("10.0.0.0/8"))]),
        ("! -d 192.0.2.7/32", [Match(Payload("ip", "daddr"), IPv4Address("192.0.2.7"), Op.NE)]),
        ("-d 192.0.2.7/255.255.255.0", [Match(Payload("ip", "daddr"), IPv4Network("192.0.2.0/24"))]),
        ("-s 10.0.3.0/255.0.255.0", [Match(masked(Payload("ip", "saddr"), 0xFF00FF00), 0x0A000300)]),
        ("-s 0.0.0.0/0", []),
        ("-o wg+", [Match(Meta("oifname"), "wg*")]),
        ("! -o lo", [Match(Meta("oifname"), "lo", Op.NE)]),
        ("-o eth*", [Match(Meta("oifname"), "eth\\*")]),
        ("-o +", []),
        ("! -p tcp", [Match(Meta("l4proto"), "tcp", Op.NE)]),
        ("-p 51", [Match(Meta("l4proto"), 51)]),
        ("-p all", []),
        ("-f", [Match(masked(Payload("ip", "frag-off"), 0x1FFF), 0, Op.NE)]),
        ("! -f", [Match(masked(Payload("ip", "frag-off"), 0x1FFF), 0)]),
        ("-p tcp --dport 443", [TCP, Match(TARGET, 443)]),
        ("-p tcp -m tcp ! --sport 1024:", [TCP, Match(SOURCE, Range(1024, 65535), Op.NE)]),
        ("-p udp --dport domain", [UDP, Match(Payload("udp", "dport"), 53)]),
        ("-p tcp --syn", [TCP, Match(masked(FLAGS, 0x17), 0x02)]),
        ("-p tcp ! --tcp-flags SYN,ACK SYN", [TCP, Match(masked(FLAGS, 0x12), 0x02, Op.NE)]),
        ("-p tcp --tcp-flags ALL NONE", [TCP, Match(masked(FLAGS, 0x3F), 0)]),
        ("-p tcp -m multiport --dports 80,443:445", [TCP, Match(TARGET, AnySet((80, Range(443, 445))))]),
        ("-p icmp --icmp-type echo-request", [Match(Meta("l4proto"), "icmp"), Match(Payload("icmp", "type"), "echo-request")]),
        ("-p icmp --icmp-type any", [Match(Meta("l4proto"), "icmp"), Match(Payload("icmp", "type"), Range(0, 255))]),
        (
            "-p icmp ! --icmp-type 3/4",
            [
                Match(Meta("l4proto"), "icmp"),
                Match(
                    Concat((Payload("icmp", "type"), Payload("icmp", "code"))),
                    Tuple(("destination-unreachable", "frag-needed")),
                    Op.NE,
                ),
            ],
        ),
        (
            "-m iprange --dst-range 10.0.0.3-10.0.0.9",
            [Match(Payload("ip", "daddr"), Range(IPv4Address("10.0.0.3"), IPv4Address("10.0.0.9")))],
        ),
        ("-m state --state RELATED,ESTABLISHED", [Match(STATE, AnySet(("established", "related")), Op.IN)]),
        ("-m conntrack ! --ctstate INVALID,NEW", [Match(STATE, AnySet(("established", "related", "untracked")), Op.IN)]),
        ("-m conntrack --ctdir REPLY", [Match(Ct("direction"), "reply")]),
        ("-m conntrack --ctorigdst 10.0.0.0/8", [Match(Ct("ip daddr", "original"), IPv4Network("10.0.0.0/8"))]),
        ("-m conntrack --ctrepldstport 5", [Match(Ct("proto-dst", "reply"), 5)]),
        ("-m conntrack ! --ctstatus ASSURED", [Match(STATUS, "assured", Op.NOT_IN)]),
        ("-m mark --mark 0xca6c", [Match(MARK, 0xCA6C)]),
        ("-m mark ! --mark 0x10/0xf0", [Match(masked(MARK, 0xF0), 0x10, Op.NE)]),
        ("-m connmark --mark 0x1/0x1", [Match(masked(CONNECTION, 1), 1)]),
        ("-m owner --uid-owner 1000-1999 --gid-owner 7", [Match(Meta("skuid"), Range(1000, 1999)), Match(Meta("skgid"), 7)]),
        ("-m addrtype ! --dst-type LOCAL,BROADCAST", [Match(Fib(("daddr",), "type"), AnySet(("local", "broadcast")), Op.NE)]),
        ("-m addrtype --dst-type LOCAL --limit-iface-out", [Match(Fib(("daddr", "oif"), "type"), "local")]),
        ("-m pkttype --pkt-type multicast", [Match(Meta("pkttype"), "multicast")]),
        ("-m length --length 100:200", [Match(Payload("ip", "length"), Range(100, 200))]),
        ("-m ttl --ttl-lt 5", [Match(Payload("ip", "ttl"), 5, Op.LT)]),
        ("-m tos --tos 0x10/0x3f", [Match(masked(RawPayload("nh", 8, 8), 0x3F), 0x10)]),
        ("-m limit --limit 3/min --limit-burst 10", [Limit(3, "minute", 10)]),
        ("-m comment --comment x", []),
    ],
)
def test_a_match_becomes_the_same_question_in_nftables_words(text, statements):
    """Each has one way, and its verdict follows it."""
    assert ways(f"{text} -j ACCEPT") == [(*statements, Verdict.ACCEPT)]


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("-s fe80::/10", [Match(Payload("ip6", "saddr"), IPv6Network("fe80::/10"))]),
        (
            "-p ipv6-icmp --icmpv6-type 135",
            [Match(Meta("l4proto"), "ipv6-icmp"), Match(Payload("icmpv6", "type"), "nd-neighbor-solicit")],
        ),
        ("-m hl ! --hl-eq 255", [Match(Payload("ip6", "hoplimit"), 255, Op.NE)]),
        ("-m rt --rt-type 0", [Match(Exthdr("rt"), "exists"), Match(Exthdr("rt", "type"), 0)]),
        ("-m frag --fraglast", [Match(Exthdr("frag"), "exists"), Match(Exthdr("frag", "more-fragments"), 0)]),
        ("-m hbh", [Match(Exthdr("hbh"), "exists")]),
        ("-m length --length 50", [Match(Payload("ip6", "length"), 10)]),
        ("-m addrtype --dst-type MULTICAST", [Match(Payload("ip6", "daddr"), IPv6Network("ff00::/8"))]),
        ("-m addrtype --src-type UNSPEC", [Match(Payload("ip6", "saddr"), IPv6Address("::"))]),
    ],
)
def test_ipv6_has_its_own_words(text, statements):
    """IPv6's types of addresses are forms of the address, not routes; its length leaves 40 bytes out."""
    assert ways(f"{text} -j ACCEPT", family=Family.IP6) == [(*statements, Verdict.ACCEPT)]


def test_a_match_on_ports_wants_the_first_fragment_even_without_ports():
    """`-m tcp` alone fails for a later fragment, which has no header: a drop by it lets those pass."""
    whole_header = Match(SOURCE, Range(0, 65535))

    assert ways("-p tcp -m tcp -j DROP") == [(TCP, whole_header, Verdict.DROP)]
    assert ways("-p tcp -j DROP") == [(TCP, Verdict.DROP)]


def test_no_port_at_all_may_be_any_port():
    """`! --dport 0:65535`: iptables-legacy matches nothing by it, iptables-nft 1.8.9 everything (counted by the kernel)."""
    reading = read("-A OUTPUT -p udp ! --dport 0:65535 -j ACCEPT")

    (rule,) = reading.ruleset.tables[0].chain("OUTPUT").rules
    assert isinstance(rule.statements[2], UnknownMatch)
    assert [each.assumed for each in reading.approximations] == ["it may match or not"]


def test_another_user_is_also_nobody():
    """A negated owner matches packets of no socket at all (xt_owner.c), which nftables' `skuid !=` never does."""
    assert ways("-m owner ! --uid-owner 0 -j DROP") == [(Match(Meta("skuid"), 0, Op.NE), Verdict.DROP), (NOBODY, Verdict.DROP)]
    assert ways("-m owner ! --uid-owner 0 --gid-owner 4 -j DROP") == [
        (Match(Meta("skuid"), 0, Op.NE), Match(Meta("skgid"), 4), Verdict.DROP)
    ]


def test_a_socket_may_exist_that_is_nobodys():
    """A kernel's own socket exists and has no user: that it exists is sure only where there is a user."""
    there, maybe = ways("-m owner --socket-exists -j ACCEPT")

    assert there == (Match(Meta("skuid"), Range(0, ALL_BITS)), Verdict.ACCEPT)
    assert maybe[0] == NOBODY
    assert isinstance(maybe[1], UnknownMatch)


def test_either_port_is_two_ways_that_exclude_each_other():
    """`--ports` holds for the source or the target port, and its negation for neither."""
    listed = AnySet((80, 443))

    assert ways("-p tcp -m multiport --ports 80,443 -j DROP") == [
        (TCP, Match(SOURCE, listed), Verdict.DROP),
        (TCP, Match(SOURCE, listed, Op.NE), Match(TARGET, listed), Verdict.DROP),
    ]
    assert ways("-p tcp -m multiport ! --ports 80,443 -j DROP") == [
        (TCP, Match(SOURCE, listed, Op.NE), Match(TARGET, listed, Op.NE), Verdict.DROP)
    ]


def test_a_translated_connection_is_a_state_of_its_own():
    """`--ctstate NEW,DNAT` is one state or one status; without a connection there is no status to ask for."""
    tracked = AnySet(("new", "established", "related"))

    assert ways("-m conntrack --ctstate NEW,DNAT -j ACCEPT") == [
        (Match(STATE, "new", Op.IN), Verdict.ACCEPT),
        (Match(STATE, AnySet(("established", "related")), Op.IN), Match(STATUS, "dnat", Op.IN), Verdict.ACCEPT),
    ]
    assert ways("-m conntrack ! --ctstate DNAT -j ACCEPT") == [
        (Match(STATE, AnySet(("invalid", "untracked")), Op.IN), Verdict.ACCEPT),
        (Match(STATE, tracked, Op.IN), Match(STATUS, "dnat", Op.NOT_IN), Verdict.ACCEPT),
    ]


def test_a_packet_without_a_connection_is_asked_for_its_state_alone():
    """`--ctstate INVALID --ctdir REPLY` matches an invalid packet, which has no direction (xt_conntrack.c)."""
    assert ways("-m conntrack --ctstate INVALID,NEW --ctdir REPLY -j DROP") == [
        (Match(STATE, "invalid", Op.IN), Verdict.DROP),
        (Match(STATE, "new", Op.IN), Match(Ct("direction"), "reply"), Verdict.DROP),
    ]


def test_several_addresses_are_several_rules():
    """iptables makes a rule of each pair, in order."""
    made = ways("-s 10.0.0.1,10.0.0.2 -d 10.0.0.3 -j ACCEPT")

    assert [each[0].right for each in made] == [IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")]


@pytest.mark.parametrize("text", ["! -o + -j ACCEPT", "-m mark --mark 0x10/0x1 -j ACCEPT", "! -s 0.0.0.0/0 -j ACCEPT"])
def test_a_rule_that_no_packet_matches_is_said(text):
    """It is left out of the rules, not out of the report."""
    reading = read(f"-A OUTPUT {text}")

    assert reading.ruleset.tables[0].chain("OUTPUT").rules == ()
    assert [each.message for each in reading.findings] == ["no packet ever matches this rule"]


@pytest.mark.parametrize("table", CHAINS)
def test_every_table_hangs_where_the_kernel_hangs_it(table):
    """Priorities of linux/netfilter_ipv4.h; mangle's OUTPUT re-routes; nat stands on both sides of the filter."""
    priority = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}

    for chain in read(table=table).ruleset.tables[0].chains:
        expected = priority.get(table, -100 if chain.name in ("PREROUTING", "OUTPUT") else 100)
        kind = {"nat": ChainType.NAT}.get(
            table, ChainType.ROUTE if (table, chain.name) == ("mangle", "OUTPUT") else ChainType.FILTER
        )
        assert chain.base == Base(kind, Hook(chain.name.lower()), expected, Verdict.ACCEPT)


def test_chains_of_ones_own_are_jumped_to_and_come_back():
    """Jump, goto and return, and the policy of the kernel's chain alone."""
    lines = ["*filter", ":OUTPUT DROP [5:400]", ":out - [0:0]", "[5:400] -A OUTPUT -j out", "-A OUTPUT -g out"]
    reading = read_save("\n".join([*lines, "-A out -d 10.0.0.1/32 -j RETURN", "COMMIT", ""]), "rules.v4", Family.IP)

    table = reading.ruleset.tables[0]
    assert reading.findings == ()
    assert [each.statements for each in table.chain("OUTPUT").rules] == [(Jump("out"),), (Jump("out", goto=True),)]
    assert table.chain("OUTPUT").base.policy is Verdict.DROP
    assert table.chain("out").base is None
    assert table.chain("out").rules[0].statements[-1] is Verdict.RETURN
    assert str(table.chain("out").rules[0].origin) == "rules.v4:6"
    assert table.chain("OUTPUT").rules[0].origin.text == "[5:400] -A OUTPUT -j out"


def test_what_is_not_known_may_hold_or_not_and_is_listed():
    """In either polarity, for matches that count, look up, or were never heard of; a target never heard of may do anything."""
    lines = [
        "-m recent --rcheck --name x",
        "-m set ! --match-set vpn dst",
        "-m brandnew ! --frob 1 2 -p tcp",
        "-m statistic --mode nth --every 2",
    ]

    reading = read(*(f"-A OUTPUT {each} -j ACCEPT" for each in lines), "-A OUTPUT -j FROB --knob 5")

    unknown = [each.statements for each in reading.ruleset.tables[0].chain("OUTPUT").rules]
    assert reading.findings == ()
    assert [type(each[0]).__name__ for each in unknown] == ["UnknownMatch"] * 2 + ["Match"] + ["UnknownMatch"] + ["Unknown"]
    assert [each.text for each in reading.approximations] == [
        "recent --rcheck --name x",
        "set ! --match-set vpn dst",
        "brandnew ! --frob 1 2",
        "statistic --mode nth --every 2",
        "FROB --knob 5",
    ]
    assert [str(each.place) for each in reading.approximations][:2] == ["rules:5:14", "rules:6:14"]


@pytest.mark.parametrize("text", ["-d vpn.example.com", "-p tcp --dport frobd"])
def test_a_name_that_is_looked_up_at_loading_may_be_anything(text):
    """Which user, address or port it is, is not in the text."""
    reading = read(f"-A OUTPUT {text} -j ACCEPT")

    assert reading.findings == ()
    assert len(reading.approximations) == 1
    assert any(isinstance(each, UnknownMatch) for each in reading.ruleset.tables[0].chain("OUTPUT").rules[0].statements)


def test_commands_of_a_file_written_by_hand_are_carried_out():
    """Insert, replace, delete by number and by words, new, policy, flush: in order, as iptables-restore does it."""
    lines = ["*filter", "-P OUTPUT DROP", "-N a", "-A OUTPUT -o lo -j ACCEPT", "-I OUTPUT -j a", "-I OUTPUT 2 -o wg0 -j ACCEPT"]
    lines += ["-A OUTPUT -j ACCEPT", "-D OUTPUT 4", "-A a -j DROP", "-F a", "--append a --jump RETURN", "-D OUTPUT -o lo -j ACCEPT"]

    reading = read_save("\n".join([*lines, "-R a 1 -j DROP", "COMMIT", ""]), "rules", Family.IP)

    table = reading.ruleset.tables[0]
    assert reading.findings == ()
    assert [each.statements for each in table.chain("OUTPUT").rules] == [
        (Jump("a"),),
        (Match(Meta("oifname"), "wg0"), Verdict.ACCEPT),
    ]
    assert table.chain("OUTPUT").base.policy is Verdict.DROP
    assert [each.statements for each in table.chain("a").rules] == [(Verdict.DROP,)]


def test_a_comment_is_the_rules_comment():
    """Quotes within quotes are unescaped, and several comments are one."""
    (rule,) = rules('-A OUTPUT -m comment --comment "a \\"b\\"" -m comment --comment c -j ACCEPT')

    assert rule.comment == 'a "b" c'


def test_a_second_match_of_one_kind_has_its_own_options():
    """An option belongs to the match loaded last."""
    made = ways("-p tcp -m multiport --dports 1,2 -m multiport ! --dports 3,4 -j DROP")

    assert made == [(TCP, Match(TARGET, AnySet((1, 2))), Match(TARGET, AnySet((3, 4)), Op.NE), Verdict.DROP)]


@pytest.mark.parametrize(
    ("header", "engine"),
    [
        ("# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sun", Engine.IPTABLES_NFT),
        ("# Generated by iptables-save v1.8.7 (nf_tables) on Sun", Engine.IPTABLES_NFT),
        ("# Generated by iptables-save v1.8.9 on Sun", Engine.IPTABLES_LEGACY),
        ("# by hand", Engine.IPTABLES_NFT),
    ],
)
def test_the_header_says_which_engine_has_the_rules(header, engine):
    """The older engine's rules stand beside nftables', and are listed by no nft."""
    reading = read_save(f"{header}\n*filter\nCOMMIT\n", "rules", Family.IP)

    assert [each.engine for each in reading.ruleset.tables] == [engine]
    assert reading.ruleset.tables[0].chains == ()

"""nft's tables, chains, sets and commands: what a file leaves behind in a kernel that was empty."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from failshut.model.finding import Code
from failshut.model.ruleset import (
    AnySet,
    Base,
    CatchAll,
    ChainType,
    Family,
    Flowtable,
    Hook,
    Jump,
    Limit,
    Match,
    Meta,
    Object,
    Op,
    Payload,
    Quota,
    Range,
    SetRef,
    Tuple,
    Verdict,
)
from failshut.read.nft.text import read_text

A, NET = IPv4Address("192.0.2.1"), IPv4Network("10.0.0.0/8")


def table_of(text):
    reading = read_text(text, "t.nft")
    assert reading.findings == ()
    return reading.ruleset.tables[0]


def in_table(text, head="table inet t"):
    return table_of(f"{head} {{\n{text}\n}}\n")


BASES = {
    "type filter hook output priority 0; policy drop;": Base(ChainType.FILTER, Hook.OUTPUT, 0, Verdict.DROP),
    "type filter hook output priority filter": Base(ChainType.FILTER, Hook.OUTPUT, 0, Verdict.ACCEPT),
    "type route hook output priority mangle - 1; policy accept": Base(ChainType.ROUTE, Hook.OUTPUT, -151, Verdict.ACCEPT),
    "type nat hook postrouting priority srcnat + 10": Base(ChainType.NAT, Hook.POSTROUTING, 110, Verdict.ACCEPT),
    "type nat hook prerouting priority dstnat -5;policy accept;": Base(ChainType.NAT, Hook.PREROUTING, -105, Verdict.ACCEPT),
    "type filter hook prerouting priority -300": Base(ChainType.FILTER, Hook.PREROUTING, -300, Verdict.ACCEPT),
    "type filter hook input priority security": Base(ChainType.FILTER, Hook.INPUT, 50, Verdict.ACCEPT),
    'type filter hook ingress device "eth0" priority filter': Base(ChainType.FILTER, Hook.INGRESS, 0, Verdict.ACCEPT, "eth0"),
    "type filter hook egress devices = { eth0, eth1 } priority 5": Base(
        ChainType.FILTER, Hook.EGRESS, 5, Verdict.ACCEPT, "eth0,eth1"
    ),
}


@pytest.mark.parametrize("text", BASES)
def test_a_base_chain_hangs_where_its_line_says(text):
    """Names of priorities are numbers, with what is added to them."""
    assert in_table(f"chain c {{ {text}\n}}").chains[0].base == BASES[text]


def test_a_bridge_has_priorities_of_its_own():
    """`filter` is -200 there."""
    table = in_table("chain c { type filter hook forward priority filter; }", "table bridge t")

    assert table.chains[0].base.priority == -200


def test_a_dormant_table_is_seen():
    """None of its chains is called."""
    assert in_table("flags dormant\nchain c { type filter hook output priority 0; policy drop; }").flags == {"dormant"}


SETS = {
    "type ipv4_addr\nflags interval\nauto-merge\nelements = { 10.0.0.0/8,\n\t192.0.2.1 }": (("ipv4_addr",), (NET, A)),
    "type ipv4_addr . inet_service; elements = { 192.0.2.1 . http }": (("ipv4_addr", "inet_service"), (Tuple((A, 80)),)),
    "typeof ip saddr . tcp dport\nelements = { 192.0.2.1 . 1-5 }": (("ipv4_addr", "inet_service"), (Tuple((A, Range(1, 5))),)),
    'type ifname\nelements = { "eth0", "wl*" }': (("ifname",), ("eth0", "wl*")),
    "type mark\nelements = { 0x10, 0x100/24 }": (("mark",), (16, Range(0x100, 0x1FF))),
    'type ipv4_addr\nelements = { 192.0.2.1 comment "one" counter packets 0 bytes 0, * }': (("ipv4_addr",), (A, CatchAll())),
    "type ct_state\nelements = { new, established }": (("ct_state",), ("new", "established")),
}


@pytest.mark.parametrize("text", SETS)
def test_a_set_holds_its_elements(text):
    """Intervals, concatenations, names."""
    named = in_table(f"set s {{\n{text}\n}}").sets[0]

    assert (named.key, named.contents) == SETS[text]


@pytest.mark.parametrize(
    "text", ["flags dynamic,timeout; timeout 1h", "flags timeout; elements = { 192.0.2.1 timeout 5s expires 2s }", "timeout 1m30s"]
)
def test_what_packets_or_time_put_into_a_set_is_not_known(text):
    """`contents` is None: the set may hold anything."""
    named = in_table(f"set s {{\ntype ipv4_addr; {text}\n}}").sets[0]

    assert named.contents is None


def test_a_set_that_a_rule_fills_is_dynamic_whatever_its_flags():
    """nft's JSON leaves the flag out."""
    table = in_table("set s { type ipv4_addr; elements = { 192.0.2.1 }\n}\nchain c { add @s { ip saddr }\n}")

    assert table.sets[0].contents is None


def test_elements_that_are_not_understood_make_a_set_unknown():
    """Any element may be in it, and that is noted."""
    reading = read_text("table inet t {\nset s { type ipv4_addr; elements = { vpn.example.com, 192.0.2.1 }\n}\n}\n", "t")

    assert reading.ruleset.tables[0].sets[0].contents is None
    assert len(reading.approximations) == 1


def test_a_map_gives_data_or_verdicts():
    """Both are looked up by a rule."""
    table = in_table(
        "map m { type inet_service : ipv4_addr; elements = { 80 : 192.0.2.1 }\n}\n"
        "map v { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : jump c, 192.0.2.1 : drop }\n}\nchain c { }"
    )

    assert (table.maps[0].data, table.maps[0].contents) == (("ipv4_addr",), ((80, A),))
    assert table.maps[1].contents == ((NET, Jump("c")), (A, Verdict.DROP))


def test_objects_are_kept_by_name():
    """Limits and quotas with what they do."""
    table = in_table(
        "counter n { packets 5 bytes 6 }\nlimit l { rate 5/second }\nquota q { over 5 bytes }\n"
        'ct helper h { type "ftp" protocol tcp; }\n'
        "flowtable f { hook ingress priority filter + 5; devices = { eth0, eth1 }; }"
    )

    assert table.counters == ("n",)
    assert table.objects == (
        Object("limit", "l", Limit(5, "second")),
        Object("quota", "q", Quota(5, over=True)),
        Object("ct helper", "h"),
    )
    assert table.flowtables == (Flowtable("f", 5, ("eth0", "eth1")),)


SCRIPT = """\
#!/usr/sbin/nft -f
# a kill switch as one finds it on the web
flush ruleset
define LAN = { 10.0.0.0/8, 192.0.2.1 }
define OUT = eth0; define VPN = "wg0"

add table inet t
add chain inet t out { type filter hook output priority 0; policy accept; }
add chain inet t out { policy drop ; }
add set inet t ports { type inet_service; }
add element inet t ports { 22, 80 }
delete element inet t ports { 80 }
add rule inet t out oifname $VPN accept
add rule inet t out oifname $OUT ip daddr $LAN \\
    accept
insert rule inet t out oifname lo accept
add rule inet t out tcp dport @ports drop
add rule inet t out index 0 udp dport 53 drop
"""


def test_a_script_leaves_what_it_adds_up_to():
    """Commands follow one another; variables stand for their values."""
    table = table_of(SCRIPT)
    oifname = Meta("oifname")

    assert table.chains[0].base == Base(ChainType.FILTER, Hook.OUTPUT, 0, Verdict.DROP)
    assert [each.statements[:-1] for each in table.chains[0].rules] == [
        (Match(oifname, "lo"),),
        (Match(Payload("udp", "dport"), 53),),
        (Match(oifname, "wg0"),),
        (Match(oifname, "eth0"), Match(Payload("ip", "daddr"), AnySet((NET, A)))),
        (Match(Payload("tcp", "dport"), SetRef("ports")),),
    ]
    assert table.sets[0].contents == (22,)


def test_a_table_may_be_opened_twice_and_flushed_between():
    """As failshut's own text does it: skeleton, flush, rules."""
    skeleton = "table inet t {\nchain c { type filter hook output priority 0; policy drop; }\n}\n"
    table = table_of(skeleton + "add rule inet t c accept\nflush table inet t\n" + skeleton + "add rule inet t c drop\n")

    assert [each.statements for each in table.chains[0].rules] == [(Verdict.DROP,)]


@pytest.mark.parametrize(
    ("command", "left"), [("flush ruleset", 0), ("flush ruleset ip", 1), ("delete table t", 1), ("flush table t", 2)]
)
def test_what_is_flushed_is_gone(command, left):
    """A family may be named; `ip` is meant when none is."""
    text = f"table t {{\nchain c {{ drop\n}}\n}}\ntable inet t {{\nchain c {{ drop\n}}\n}}\n{command}\n"
    reading = read_text(text, "t")

    assert reading.findings == ()
    assert len(reading.ruleset.tables) == left


def test_a_family_that_is_not_said_is_ip():
    """nft's default."""
    assert table_of("table t {\n}").family is Family.IP


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ('include "/etc/nftables.d/*.nft"', Code.RULES_ELSEWHERE),
        ("delete rule inet t c handle 5", Code.RULES_COMMAND),
        ("insert rule inet t c position 5 accept", Code.RULES_COMMAND),
        ("replace rule inet t c handle 5 drop", Code.RULES_COMMAND),
        ("rename chain inet t c d", Code.RULES_COMMAND),
        ("add rule inet t c ip daddr $NOBODY accept", Code.RULES_BAD_VALUE),
        ("add rule inet t c jump nowhere", Code.RULES_NO_TARGET),
        ("add rule inet t c ip daddr @nothing accept", Code.RULES_NO_TARGET),
        ("add rule inet t c ip daddr vmap { 192.0.2.1 : jump nowhere }", Code.RULES_NO_TARGET),
        ("add rule inet t d jump c", Code.RULES_LOOP),
        ("add element inet t none { 1 }", Code.RULES_NO_TARGET),
    ],
)
def test_what_can_not_be_followed_is_an_error_with_its_line(command, code):
    """Whoever judges such a ruleset judges another one than the kernel's."""
    chains = "chain c { type filter hook output priority 0; jump d\n}\nchain d { }\n"
    reading = read_text(f"table inet t {{\n{chains}}}\n{command}\n", "t")

    assert [(each.code, each.place.line) for each in reading.findings if each.code is code]
    assert all(each.place.line in (2, 6) and each.is_error for each in reading.findings)
    assert not reading.is_whole


def test_in_a_test_of_bits_a_set_is_not_taken_apart():
    """`ct state { new }` is not `ct state new`."""
    table = in_table("chain c { ct state new accept\nct state { new, related } accept\n}")

    assert [each.statements[0].op for each in table.chains[0].rules] == [Op.IN, Op.EQ]


def test_a_set_may_remember_when_its_elements_were_last_seen():
    """`last` is new in nft 1.1, and no packet's way depends on it."""
    text = "table inet t {\n\tset seen {\n\t\ttype ipv4_addr\n\t\tsize 9\n\t\tflags dynamic\n\t\tlast\n\t}\n}\n"

    assert read_text(text, "t.nft").findings == ()


@pytest.mark.parametrize(
    ("rules", "places"),
    [
        ('oifname "lo accept\noifname "wg0" accept\n}\n}\n', [(1, 1), (2, 1), (3, 9)]),
        ('oifname "lo" accept comment "mine\n}\n}\n', [(1, 1), (2, 1), (3, 29)]),
        ("drop\n}\n", [(1, 1)]),
        ("drop\n", [(1, 1), (2, 1)]),
    ],
)
def test_what_is_not_closed_is_shown_where_it_opens(rules, places):
    """A quote, a chain, a table: nft notices it lines later, or at the end."""
    findings = read_text(f"table inet t {{\nchain o {{\n{rules}", "r").findings

    assert sorted((each.place.line, each.place.column) for each in findings) == places

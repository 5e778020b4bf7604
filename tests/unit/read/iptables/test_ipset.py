"""What is in an ipset, as the kernel answered it: every row was compared with packets of Linux 6.18 under both engines."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.netfilter.route import Way, routes
from failshut.model.finding import Code
from failshut.read import read_rulesets
from failshut.read.reading import Reading

DUMP = """\
create nets hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x9a9070f8
add nets 10.1.2.7 nomatch
add nets 10.1.0.0/16 nomatch
add nets 10.1.2.0/24
add nets 10.0.0.0/8
create services hash:ip,port family inet hashsize 1024 maxelem 65536 comment
add services 198.51.100.1,udp:53-54 comment "two words"
add services 198.51.100.2,tcp:80
add services 198.51.100.3,icmp:echo-request
add services 198.51.100.4,gre:0
create devices hash:net,iface family inet
add devices 198.51.100.0/24,eth0
create ports bitmap:port range 50-90
add ports 53
create hosts bitmap:ip range 198.51.100.0-198.51.100.255
add hosts 198.51.100.2
create masked hash:ip family inet netmask 24
add masked 203.0.113.0
create six hash:ip family inet6
add six 2001:db8::1
create empty hash:ip family inet
create ending hash:ip family inet timeout 600
add ending 198.51.100.9 timeout 599
create all list:set size 8
add all nets
add all hosts
"""
HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n"
PROTOCOLS = {"udp": 17, "tcp": 6, "icmp": 1, "gre": 47, "esp": 50}


def read(match: str, dump: str = DUMP, more: str = "") -> Reading:
    rules = f"{HEAD}-A OUTPUT -m set {match} -j ACCEPT\n{more}COMMIT\n"
    return read_rulesets([("rules.v4", rules.encode()), ("ipset.conf", dump.encode())])[0]


def passes(match: str, packet: str) -> bool:
    """Whether a packet such as `udp 198.51.100.1 53` meets the match."""
    protocol, address, *port = packet.split()
    ports = {"sport": 40000, "dport": int(*port)} if protocol in ("udp", "tcp") else {"icmp type": 8, "icmp code": 0}
    known = {"ct state": 8, "oifname": "eth0", "ip saddr": int(ip_address("10.1.2.3")), "ip daddr": int(ip_address(address))}
    reading = read(match)
    assert (reading.is_whole, reading.approximations) == (True, ())
    return evaluate(routes(reading.ruleset, Way.OUTPUT, 4)[0], {**known, **ports, "l4proto": PROTOCOLS[protocol]}).leaves


@pytest.mark.parametrize(
    ("match", "inside", "outside"),
    [
        ("nets dst", ("tcp 10.9.9.9 1", "tcp 10.1.2.3 1"), ("tcp 10.1.5.5 1", "tcp 10.1.2.7 1", "tcp 11.0.0.1 1")),
        ("nets dst,src", ("udp 10.9.9.9 1",), ("udp 11.0.0.1 1",)),
        ("nets src", ("udp 198.51.100.1 1",), ()),
        (
            "services dst,dst",
            ("udp 198.51.100.1 54", "tcp 198.51.100.2 80", "icmp 198.51.100.3", "gre 198.51.100.4"),
            ("tcp 198.51.100.1 53", "udp 198.51.100.1 55", "icmp 198.51.100.4", "gre 198.51.100.3", "esp 198.51.100.4"),
        ),
        ("services dst,src", (), ("udp 198.51.100.1 53",)),
        # One direction for a set of two dimensions holds for no packet (ip_set_test).
        ("services dst", (), ("udp 198.51.100.1 53",)),
        ("devices dst,dst", ("icmp 198.51.100.7",), ("icmp 198.51.101.7",)),
        ("devices dst,src", (), ("icmp 198.51.100.7",)),
        ("ports dst", ("udp 8.8.8.8 53", "tcp 8.8.8.8 53"), ("udp 8.8.8.8 54", "icmp 8.8.8.8")),
        ("hosts dst", ("tcp 198.51.100.2 1",), ("tcp 198.51.100.3 1",)),
        ("masked dst", ("tcp 203.0.113.200 1",), ("tcp 203.0.114.1 1",)),
        ("empty dst", (), ("tcp 203.0.113.200 1",)),
        ("all dst", ("tcp 198.51.100.2 1", "tcp 10.9.9.9 1"), ("tcp 10.1.5.5 1", "tcp 198.51.100.3 1")),
    ],
)
def test_a_set_holds_what_the_kernel_finds_in_it(match, inside, outside):
    """Also the narrowest of its networks, what spares others, and what a packet lacks."""
    assert [passes(f"--match-set {match}", each) for each in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize("match", ["nets dst", "hosts dst", "masked dst", "empty dst", "all dst"])
def test_what_is_not_in_a_set_of_addresses_is_everything_else(match):
    """Every packet has an address."""
    for packet in ("tcp 10.9.9.9 1", "tcp 10.1.5.5 1", "udp 198.51.100.2 1", "icmp 203.0.113.3"):
        assert passes(f"! --match-set {match}", packet) is not passes(f"--match-set {match}", packet)


@pytest.mark.parametrize(
    ("match", "more", "said"),
    [
        ("! --match-set services dst,dst", "", "what is not in a set of ip,port is not followed"),
        ("--match-set nets dst --packets-gt 3", "", "what a set has counted is not known"),
        (
            "--match-set hosts dst",
            "-A INPUT -j SET --add-set hosts src\n",
            "packets put something into the ipset hosts, or take it out",
        ),
    ],
)
def test_what_is_not_followed_is_said(match, more, said):
    """It may hold or not."""
    assert [each.assumed for each in read(match, more=more).approximations] == [said]


def test_an_element_that_ends_is_there_for_a_while():
    """It may be gone, and the rules that name it are a leak while it lasts."""
    reading = read("--match-set ending dst")

    assert [each.assumed for each in reading.approximations] == ["it may match or not"]


@pytest.mark.parametrize(
    ("match", "code"), [("--match-set six dst", Code.RULES_OTHER_FAMILY), ("--match-set absent dst", Code.RULES_NO_TARGET)]
)
def test_what_iptables_restore_refuses_is_an_error(match, code):
    """A set of the other family, or one that is not there."""
    assert [each.code for each in read(match).findings] == [code]


def test_without_the_sets_nothing_is_known_of_them():
    """The control: what to give is said."""
    (reading,) = read_rulesets([("rules.v4", f"{HEAD}-A OUTPUT -m set --match-set nets dst -j ACCEPT\nCOMMIT\n".encode())])

    assert ["`ipset save`" in each.assumed for each in reading.approximations] == [True]


@pytest.mark.parametrize(
    "line", ["add nets 300.1.1.1", "add nowhere 10.0.0.1", "add services 10.0.0.1,udp:70000", "rename a b", "add ports 3-1"]
)
def test_a_line_that_ipset_would_refuse_is_an_error(line):
    """With its place; what its set holds is not known then."""
    dump, rules = read_rulesets([("ipset.conf", f"{DUMP}{line}\n".encode()), ("rules.v4", f"{HEAD}COMMIT\n".encode())])

    assert [(each.is_error, each.place.line) for each in dump.findings] == [(True, DUMP.count("\n") + 1)]
    assert rules.findings == ()

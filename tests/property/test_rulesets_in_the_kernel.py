"""Random rulesets through the kernel: what nft lists of them, as text and as JSON, is one ruleset, and the one written."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failshut.emit.nft import table_text
from failshut.model.ruleset import (
    AnyMap,
    AnySet,
    Assign,
    Base,
    Binary,
    BitOp,
    Chain,
    ChainType,
    Concat,
    ConnectionLimit,
    Counter,
    Ct,
    Family,
    Fib,
    Hook,
    Jump,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    NamedMap,
    NamedSet,
    Nat,
    NatKind,
    Notrack,
    Op,
    Payload,
    Quota,
    Range,
    Reject,
    Rule,
    Ruleset,
    SetRef,
    Table,
    Tuple,
    Update,
    Verdict,
    VerdictMap,
    masked,
)
from failshut.read.nft.json import read_json
from failshut.read.nft.text import read_text
from sandbox import Sandbox

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft: the kernel can't be asked"),
]

SADDR, DADDR = Payload("ip", "saddr"), Payload("ip", "daddr")
MARK, CT_MARK, STATE = Meta("mark"), Ct("mark"), Ct("state")
ADDRESSES = [IPv4Address("192.0.2.1"), IPv4Network("10.0.0.0/8"), Range(IPv4Address("198.51.100.3"), IPv4Address("198.51.100.9"))]
PORTS = [22, 443, Range(1000, 1999), Range(5000, 5001)]
DEVICES = ["eth0", "wg*", "lo", "tun0"]


def one_or_some(values):
    """One of the values, or an anonymous set of several."""
    some = st.lists(st.sampled_from(values), min_size=2, max_size=len(values), unique_by=repr)
    return st.one_of(st.sampled_from(values), some.map(lambda each: AnySet(tuple(each))))


def matches(left, values, ops=(Op.EQ, Op.NE)):
    return st.builds(Match, st.sampled_from(left), one_or_some(values), st.sampled_from(ops))


marks = st.integers(1, 0xFFFFFFFF)
# Not without the last bit alone: a mask of leading ones is listed as a range (`0x2/31`).
masks = st.integers(1, 31).map(lambda bit: 0xFFFFFFFF ^ (1 << bit))
over = st.booleans()
states = st.lists(st.sampled_from(["new", "established", "related", "invalid", "untracked"]), min_size=2, max_size=3, unique=True)

ip = st.one_of(
    matches([SADDR, DADDR], ADDRESSES),
    st.builds(Match, st.sampled_from([SADDR, DADDR]), st.just(SetRef("addresses")), st.sampled_from([Op.EQ, Op.NE])),
    matches([Payload("ip", "ttl")], [1, 64, Range(3, 9)]),
    matches([Payload("ip", "dscp")], ["cs1", "af11", 47]),
    st.builds(Match, st.just(masked(SADDR, 0xFF)), st.integers(1, 255)),
    st.just(VerdictMap(SADDR, SetRef("decided"))),
)
ip6 = matches([Payload("ip6", "daddr")], [IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")])
tcp = st.one_of(
    matches([Payload("tcp", "sport"), Payload("tcp", "dport")], PORTS),
    st.builds(Match, st.just(Payload("tcp", "flags")), st.sampled_from(["syn", "ack", AnySet(("syn", "ack"))]), st.just(Op.IN)),
    st.builds(Match, st.just(masked(Payload("tcp", "flags"), 0x17)), st.sampled_from([2, 0x12]), st.sampled_from([Op.EQ, Op.NE])),
    st.just(VerdictMap(Payload("tcp", "dport"), AnyMap(((22, Verdict.ACCEPT), (Range(80, 90), Jump("other")))))),
)
udp = matches([Payload("udp", "sport"), Payload("udp", "dport")], PORTS)
meta = st.one_of(
    matches([Meta("oifname")], DEVICES),
    matches([Meta("skuid"), Meta("skgid")], [0, 1000, Range(2000, 3000)]),
    matches([Meta("l4proto")], ["tcp", "udp", "icmp", 47]),
    matches([Meta("pkttype")], ["host", "broadcast", "multicast"]),
    matches([MARK, CT_MARK], [1, 0xCA6C, Range(0x100, 0x180)]),
    st.builds(Match, masks.map(lambda mask: masked(MARK, mask)), marks, st.sampled_from([Op.EQ, Op.NE])),
    st.builds(Match, st.just(STATE), st.sampled_from(["new", "established"]), st.sampled_from([Op.IN, Op.EQ, Op.NE, Op.NOT_IN])),
    st.builds(Match, st.just(STATE), states.map(lambda each: AnySet(tuple(each))), st.sampled_from([Op.IN, Op.EQ, Op.NE])),
    matches([Ct("direction")], ["original", "reply"], (Op.EQ, Op.NE)).filter(lambda each: not isinstance(each.right, AnySet)),
    matches([Fib(("daddr",), "type"), Fib(("saddr",), "type")], ["local", "broadcast", "unicast"]),
    st.builds(Match, st.just(Meta("length")), st.integers(20, 1500), st.sampled_from([Op.LT, Op.GT, Op.LE, Op.GE])),
)
values = st.one_of(
    marks,
    st.just(CT_MARK),
    masks.map(lambda mask: masked(MARK, mask)),
    # The kernel keeps the bits that are set anyway, and lists them so.
    st.integers(1, 0xFFFF).map(lambda bits: Binary(BitOp.OR, masked(CT_MARK, 0xFF0000FF | bits << 8), bits << 8)),
    st.just(Binary(BitOp.LEFT, MARK, 8)),
    st.just(Lookup(SADDR, AnyMap(((ADDRESSES[0], 1), (IPv4Address("192.0.2.2"), 2))))),
    st.just(Lookup(SADDR, SetRef("marks"))),
)
actions = st.one_of(
    st.builds(Assign, st.just(MARK), values),
    st.builds(Assign, st.just(CT_MARK), st.one_of(marks, st.just(MARK))),
    st.builds(Limit, st.integers(1, 100), st.sampled_from(["second", "minute", "hour"]), st.integers(1, 50), over),
    st.builds(Limit, st.integers(1, 100), st.just("second"), st.just(7), over, st.just("kbytes"), st.just("mbytes")),
    st.builds(Quota, st.integers(1, 900), over),
    st.builds(ConnectionLimit, st.integers(1, 9), over),
    st.builds(Log, st.sampled_from(["", "a b: "]), st.sampled_from(["", "debug"])),
    st.builds(Log, st.just("x"), group=st.integers(0, 9), snaplen=st.just(100)),
    st.just(Counter()),
    st.just(Counter("counted")),
    st.just(Notrack()),
    st.just(Update("seen", SADDR, "add")),
    st.just(Update("seen", SADDR, timeout=60, statements=(Limit(5, "second"),))),
)
verdicts = [Verdict.ACCEPT, Verdict.DROP, Verdict.RETURN, Jump("other"), Jump("other", goto=True)]
ends = st.sampled_from([*verdicts, Reject("icmpx", "admin-prohibited")])


def asks_ipv4(statement):
    value = getattr(statement, "value", None)
    return SADDR in (getattr(statement, "key", None), value.key if isinstance(value, Lookup) else None)


@st.composite
def filter_rules(draw):
    """Return a rule of a filter chain: of one family and one protocol at most, as nft wants it."""
    statements = draw(st.lists(draw(st.sampled_from([ip, ip6])), max_size=1)) + draw(
        st.lists(draw(st.sampled_from([tcp, udp, meta])), max_size=1)
    )
    decided = any(isinstance(each, VerdictMap) for each in statements)
    if not decided:
        # An IPv4 field in a rule that matches IPv6 would never match: nft refuses it.
        foreign = any("ip6" in repr(each) for each in statements)
        statements += [each for each in draw(st.lists(actions, max_size=2)) if not (foreign and asks_ipv4(each))]
        statements += [draw(ends)] if draw(st.booleans()) or not statements else []
    return Rule(tuple(sorted(statements, key=lambda each: isinstance(each, VerdictMap))), draw(st.sampled_from(["", "a comment"])))


SOURCES = [None, ADDRESSES[0], Range(IPv4Address("192.0.2.4"), IPv4Address("192.0.2.7"))]
translations = st.builds(
    Nat,
    st.just(NatKind.SNAT),
    st.one_of(st.sampled_from(SOURCES[1:2]), st.just(Lookup(DADDR, AnyMap(((ADDRESSES[0], IPv4Address("192.0.2.7")),))))),
    st.none(),
    st.just("ip"),
    st.sampled_from([frozenset(), frozenset({"random"}), frozenset({"persistent", "fully-random"})]),
)
nat_rules = st.one_of(
    st.builds(lambda match, nat: Rule((match, nat)), matches([Meta("oifname")], DEVICES), translations),
    st.builds(lambda port: Rule((Match(Meta("l4proto"), "tcp"), Nat(NatKind.MASQUERADE, port=port))), st.sampled_from(PORTS[2:])),
)


def table(filters, translated):
    base = Base(ChainType.FILTER, Hook.OUTPUT, 5, Verdict.DROP)
    return Table(
        Family.INET,
        "t",
        (
            Chain("other"),
            Chain("out", tuple(filters), base),
            Chain("nat", tuple(translated), Base(ChainType.NAT, Hook.POSTROUTING, 100, Verdict.ACCEPT)),
        ),
        (
            NamedSet("addresses", ("ipv4_addr",), frozenset({"interval"}), elements=tuple(ADDRESSES)),
            NamedSet("seen", ("ipv4_addr",), frozenset({"dynamic", "timeout"}), 128, 3600),
            NamedSet("pairs", ("ipv4_addr", "inet_service"), frozenset({"interval"}), elements=(Tuple((ADDRESSES[1], PORTS[2])),)),
        ),
        ("counted",),
        maps=(
            NamedMap("marks", ("ipv4_addr",), ("mark",), elements=((ADDRESSES[0], 0x10),)),
            NamedMap("decided", ("ipv4_addr",), ("verdict",), elements=((ADDRESSES[0], Verdict.DROP),)),
        ),
    )


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as machine:
        yield machine


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(filter_rules(), min_size=1, max_size=15), st.lists(nat_rules, max_size=3), st.booleans())
def test_what_the_kernel_lists_is_what_was_written_whichever_way_it_is_read(sandbox, filters, translated, pairs):
    """Both readers and the writer say the same of every rule, and nothing of it is approximated."""
    if pairs:
        filters = [*filters, Rule((Match(Concat((DADDR, Payload("tcp", "dport"))), SetRef("pairs")), Verdict.ACCEPT))]
    # Behind a match of one family nft lists the plain reject as that family's.
    filters = [*filters, Rule((Counter(), Reject()))]
    written = Ruleset((table(filters, translated),))
    text = table_text(written.tables[0])
    loaded = sandbox.run("nft", "-f", "-", stdin="flush ruleset\n" + text)
    assert loaded.returncode == 0, loaded.stderr

    as_text = read_text(sandbox.run("nft", "list", "ruleset").stdout, "text")
    as_json = read_json(sandbox.run("nft", "-j", "list", "ruleset").stdout, "json")
    by_hand = read_text(text, "by hand")

    assert (as_text.findings, as_text.approximations) == ((), ())
    assert (as_json.findings, as_json.approximations) == ((), ())
    assert rules_of(as_text.ruleset) == rules_of(by_hand.ruleset) == rules_of(written)
    assert rules_of(as_text.ruleset) == rules_of(as_json.ruleset)
    assert plain(as_text.ruleset) == plain(as_json.ruleset)
    assert plain(as_text.ruleset) == plain(by_hand.ruleset) == plain(written)


def rules_of(ruleset):
    """Return all rules, so that a difference is shown as that of one rule."""
    return [each for table in ruleset.canonical().tables for chain in table.chains for each in chain.rules]


def plain(ruleset):
    """Return what can be compared: JSON leaves out that a set is dynamic when no rule fills it."""
    tables = [replace(each, sets=tuple(one for one in each.sets if one.name != "seen")) for each in ruleset.canonical().tables]
    return Ruleset(tuple(tables))

"""nft's statements: verdicts, marks, translation, limits, and what is none of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from failshut.model.ruleset import (
    AnyMap,
    Assign,
    Binary,
    BitOp,
    CatchAll,
    Concat,
    ConnectionLimit,
    Counter,
    Ct,
    Duplicate,
    Forward,
    HeaderOption,
    Jump,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    Nat,
    NatKind,
    Notrack,
    ObjectRef,
    Offload,
    Opaque,
    Payload,
    Queue,
    Quota,
    Range,
    Reject,
    Rt,
    SetRef,
    Synproxy,
    Tproxy,
    Tuple,
    Unknown,
    Update,
    Verdict,
    VerdictMap,
    masked,
)
from failshut.read.nft.text import read_text

MARK, CT_MARK, SADDR, DPORT = Meta("mark"), Ct("mark"), Payload("ip", "saddr"), Payload("tcp", "dport")
A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9")

STATEMENTS = {
    "accept": Verdict.ACCEPT,
    "continue": Verdict.CONTINUE,
    "jump other": Jump("other"),
    "goto other": Jump("other", goto=True),
    "reject": Reject(),
    "reject with tcp reset": Reject("tcp reset"),
    "reject with icmpx type port-unreachable": Reject(),
    "reject with icmp type host-unreachable": Reject("icmp", "host-unreachable"),
    "reject with icmpv6 1": Reject("icmpv6", "admin-prohibited"),
    "counter packets 5 bytes 6": Counter(),
    'counter name "blocked"': Counter("blocked"),
    'counter name tcp dport map { 22 : "a", 80 : "b" }': ObjectRef("counter", Lookup(DPORT, AnyMap(((22, "a"), (80, "b"))))),
    "limit rate 10/minute": Limit(10, "minute"),
    "limit rate over 10/second burst 3 packets": Limit(10, "second", 3, over=True),
    "limit rate 10 mbytes/second": Limit(10, "second", 0, unit="mbytes"),
    "limit rate over 1 kbytes / hour burst 2 mbytes": Limit(1, "hour", 2, over=True, unit="kbytes", burst_unit="mbytes"),
    'limit name "slow"': ObjectRef("limit", "slow"),
    "quota over 25 mbytes": Quota(25 << 20, over=True),
    "quota 5 bytes used 3 bytes": Quota(5),
    "ct count over 10": ConnectionLimit(10, over=True),
    'ct helper set "ftp-standard"': ObjectRef("ct helper", "ftp-standard"),
    "log": Log(),
    'log prefix "a: b" level debug flags all': Log("a: b", "debug", flags=("all",)),
    "log level warn": Log(),
    'log prefix "x" group 2 snaplen 100 queue-threshold 5': Log("x", group=2, snaplen=100, queue_threshold=5),
    "log flags tcp sequence,options": Log(flags=("tcp sequence", "tcp options")),
    # Marks.
    "meta mark set 0x1": Assign(MARK, 1),
    "mark set 1": Assign(MARK, 1),
    "ct mark set meta mark": Assign(CT_MARK, MARK),
    "meta mark set ct mark and 0xff": Assign(MARK, masked(CT_MARK, 255)),
    "meta mark set meta mark & 0xffff00ff | 0x100": Assign(MARK, Binary(BitOp.OR, masked(MARK, 0xFFFF00FF), 0x100)),
    "meta mark set (meta mark << 8) ^ 1": Assign(MARK, Binary(BitOp.XOR, Binary(BitOp.LEFT, MARK, 8), 1)),
    "meta mark set 1 | 2": Assign(MARK, 3),
    "meta mark set 1 or 2 lshift 1": Assign(MARK, 5),
    "meta mark set ip saddr map @marks": Assign(MARK, Lookup(SADDR, SetRef("marks"))),
    "meta mark set ip saddr map { 192.0.2.1 : 0x1, 192.0.2.9:2 }": Assign(MARK, Lookup(SADDR, AnyMap(((A, 1), (B, 2))))),
    "meta mark set numgen inc mod 2": Assign(MARK, Opaque("numgen")),
    "tcp option maxseg size set rt mtu": Assign(HeaderOption("tcp", "maxseg", "size"), Rt("mtu")),
    "ip dscp set cs1": Assign(Payload("ip", "dscp"), "cs1"),
    "ct event set new,related": Assign(Ct("event"), 3),
    "meta nftrace set 1": Assign(Meta("nftrace"), 1),
    # Maps of verdicts.
    "tcp dport vmap { 22 : accept, 80-90:jump other, * : drop }": VerdictMap(
        DPORT, AnyMap(((22, Verdict.ACCEPT), (Range(80, 90), Jump("other")), (CatchAll(), Verdict.DROP)))
    ),
    "ip saddr vmap @decided": VerdictMap(SADDR, SetRef("decided")),
    "ip saddr . tcp dport vmap { 192.0.2.0/24 . 22 : goto other }": VerdictMap(
        Concat((SADDR, DPORT)), AnyMap(((Tuple((IPv4Network("192.0.2.0/24"), 22)), Jump("other", goto=True)),))
    ),
    # Sets that packets fill.
    "add @seen { ip saddr }": Update("seen", SADDR, "add"),
    "update @seen { ip saddr timeout 1m limit rate 5/second }": Update(
        "seen", SADDR, "update", timeout=60, statements=(Limit(5, "second"),)
    ),
    "delete @seen { ip saddr . tcp dport }": Update("seen", Concat((SADDR, DPORT)), "delete"),
    "update @seen { ip saddr : tcp dport }": Update("seen", SADDR, "update", DPORT),
    "set add ip saddr @seen": Update("seen", SADDR, "add"),
    "meter seen size 128 { ip saddr ct count over 3 }": Update("seen", SADDR, statements=(ConnectionLimit(3, over=True),)),
    # Elsewhere.
    "masquerade": Nat(NatKind.MASQUERADE),
    "masquerade to :1024-2048 random,persistent": Nat(
        NatKind.MASQUERADE, port=Range(1024, 2048), flags=frozenset({"random", "persistent"})
    ),
    "snat ip to 192.0.2.1": Nat(NatKind.SNAT, A, family="ip"),
    "snat to 192.0.2.1-192.0.2.9:100-200": Nat(NatKind.SNAT, Range(A, B), Range(100, 200)),
    "dnat to 192.0.2.1:53": Nat(NatKind.DNAT, A, 53),
    "dnat ip6 to [2001:db8::1]:53": Nat(NatKind.DNAT, IPv6Address("2001:db8::1"), 53, "ip6"),
    "dnat ip6 to 2001:db8::1": Nat(NatKind.DNAT, IPv6Address("2001:db8::1"), family="ip6"),
    "dnat to :5353": Nat(NatKind.DNAT, port=5353),
    "dnat to tcp dport map { 80 : 192.0.2.1 . 8080 }": Nat(NatKind.DNAT, Lookup(DPORT, AnyMap(((80, Tuple((A, 8080))),)))),
    "redirect to :5353": Nat(NatKind.REDIRECT, port=5353),
    "redirect": Nat(NatKind.REDIRECT),
    "tproxy ip to 192.0.2.1:50080": Tproxy("ip", A, 50080),
    "dup to 192.0.2.1 device eth0": Duplicate(A, "eth0"),
    "fwd to eth0": Forward("eth0"),
    "flow add @fast": Offload("fast"),
    "queue num 1-3 bypass,fanout": Queue("1-3", frozenset({"bypass", "fanout"})),
    "queue flags bypass to 5": Queue("5", frozenset({"bypass"})),
    "notrack": Notrack(),
    "synproxy mss 1460 wscale 7 timestamp sack-perm": Synproxy("mss 1460 wscale 7 timestamp sack-perm"),
    'xt target "TCPMSS"': Unknown("xt target TCPMSS"),
}


def rules_of(text):
    reading = read_text(f"table inet t {{\n\tchain c {{\n\t\t{text}\n\t}}\n}}\n", "t.nft")
    return reading, reading.ruleset.tables[0].chains[0].rules


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_is_read_as_the_model_says_it(text):
    """Alone and before a verdict."""
    for behind in ("", " accept"):
        _, (rule,) = rules_of(text + behind)
        assert rule.statements == (STATEMENTS[text], *((Verdict.ACCEPT,) if behind else ()))


def test_a_rule_keeps_its_comment_its_line_and_its_text():
    """A witness names the rule that let it through."""
    _, (first, second) = rules_of('oifname "eth0" accept comment "the way out" # handle 7\n\n\t\tdrop')

    assert (first.comment, first.origin.line) == ("the way out", 3)
    assert first.origin.text == 'oifname "eth0" accept comment "the way out"'
    assert str(second.origin) == "t.nft:5"


@pytest.mark.parametrize("text", ["teleport to mars accept", "ip nothing 5 accept", "tcp dport 80 sing accept", "accept, accept"])
def test_what_is_not_understood_may_do_anything_and_is_noted(text):
    """From where the reader lost the thread to the end of the rule: the verdict behind it is not believed."""
    reading, rules = rules_of(text + "\n\t\tdrop")

    assert isinstance(rules[0].statements[-1], Unknown)
    assert Verdict.ACCEPT not in rules[0].statements[1:]
    assert rules[1].statements == (Verdict.DROP,)
    assert [each.place.line for each in reading.approximations] == [3]


def test_a_match_that_old_nft_prints_as_a_comment_is_no_comment():
    """Releases without libxtables print `# xt_owner`; a reader that skips comments would believe the accept behind it."""
    reading, (rule,) = rules_of('oifname "eth0" # xt_owner counter packets 0 bytes 0 accept')

    assert rule.statements[1] == Unknown("xt_owner")
    assert len(reading.approximations) == 1


def test_a_chain_within_a_rule_is_a_chain():
    """nft calls them by numbers."""
    reading, (rule,) = rules_of("jump {\n\t\t\ttcp dport 22 accept\n\t\t\tdrop\n\t\t}")

    inner = reading.ruleset.tables[0].chain("__chain0")
    assert rule.statements == (Jump("__chain0"),)
    assert [each.statements for each in inner.rules] == [(Match(DPORT, 22), Verdict.ACCEPT), (Verdict.DROP,)]

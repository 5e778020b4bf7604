"""Text that iptables-restore refuses, or that is no iptables-save at all: a finding with line and column, never silence."""

from __future__ import annotations

import pytest

from failshut.model.finding import Code, Severity
from failshut.model.ruleset import Family, Hook, Unknown, Verdict
from failshut.read.iptables import read_save
from iptables_rules import read, save


def found(text, family=Family.IP):
    """Return what is said of a text: place, code."""
    return [(str(each.place), each.code) for each in read_save(text, "f", family).findings]


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        ("-A OUTPUT -j NOWHERE", 14, Code.RULES_NO_TARGET),
        ("-A OUTPUT -g NOWHERE", 14, Code.RULES_NO_TARGET),
        ("-A NOWHERE -j DROP", 4, Code.RULES_NO_TARGET),
        ("-A OUTPUT -j INPUT", 14, Code.RULES_SYNTAX),
        ("-A OUTPUT -j DROP -j DROP", 19, Code.RULES_SYNTAX),
        ("-A OUTPUT --dport 5 -p tcp", 11, Code.RULES_SYNTAX),
        ("-A OUTPUT --ctstate NEW -m conntrack", 11, Code.RULES_SYNTAX),
        ("-A OUTPUT -p tcp --dport 5 --dport 6", 28, Code.RULES_SYNTAX),
        ("-A OUTPUT -s", 11, Code.RULES_SYNTAX),
        ("-A OUTPUT -j DROP # why", 19, Code.RULES_SYNTAX),
        ("-A OUTPUT -j DROP !", 19, Code.RULES_SYNTAX),
        ("-A OUTPUT ! ! -s 10.0.0.1", 13, Code.RULES_SYNTAX),
        ('-A OUTPUT -m comment --comment "open', 32, Code.RULES_SYNTAX),
        ("-A OUTPUT -ptcp", 11, Code.RULES_SYNTAX),
        ("-D OUTPUT 1", 11, Code.RULES_SYNTAX),
        ("-I OUTPUT 3 -j DROP", 11, Code.RULES_SYNTAX),
        ("-L", 1, Code.RULES_SYNTAX),
        ("[5:x] -A OUTPUT", 1, Code.RULES_SYNTAX),
        ("OUTPUT -j DROP", 1, Code.RULES_SYNTAX),
        ("iptables -j DROP", 1, Code.RULES_SYNTAX),
        (":OUTPUT DROP", 2, Code.RULES_SYNTAX),
        ("-A INPUT -o eth0", 10, Code.RULES_SYNTAX),
        ("-A INPUT -m owner --uid-owner 5", 13, Code.RULES_SYNTAX),
        ("-A OUTPUT -j MASQUERADE", 14, Code.RULES_SYNTAX),
        ("-A OUTPUT -s 10.0.0.300", 11, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -s 10.0.0.0/33", 11, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -p tcp --dport 70000", 18, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -p tcp --dport 9:5", 18, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -p nonsense", 11, Code.RULES_BAD_VALUE),
        ("-A OUTPUT ! -p all", 13, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -m tcp --dport 5", 18, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -m multiport --dports 5", 24, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -m conntrack --ctstate OPEN", 24, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -m mark --mark 0x1ffffffff", 19, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -o interface-of-16b", 11, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -j REJECT --reject-with tcp-reset", 21, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -m limit ! --limit 3/min", 22, Code.RULES_BAD_VALUE),
        ("-A OUTPUT -s 2001:db8::1", 11, Code.RULES_OTHER_FAMILY),
        ("-A OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type 1", 27, Code.RULES_OTHER_FAMILY),
        ("-A OUTPUT -m hl --hl-eq 5", 14, Code.RULES_OTHER_FAMILY),
    ],
)
def test_what_iptables_restore_refuses_is_an_error_where_it_stands(line, column, code):
    """With the line's text beside it."""
    findings = read(line).findings

    assert (str(findings[0].place), findings[0].code) == (f"rules:5:{column}", code)
    assert findings[0].severity is Severity.ERROR
    assert findings[0].source == line


def test_a_rule_that_is_refused_may_do_anything():
    """It stays in its place among the rules, so that nothing is proved past it."""
    reading = read("-A OUTPUT -o lo -j ACCEPT", "-A OUTPUT --frob", "-A OUTPUT -j DROP")

    verdicts = [each.statements[-1] for each in reading.ruleset.tables[0].chain("OUTPUT").rules]
    assert verdicts == [Verdict.ACCEPT, Unknown("-A OUTPUT --frob"), Verdict.DROP]
    assert not reading.is_whole


def test_half_a_file_is_said():
    """Without its COMMIT, iptables-restore loads nothing of a table."""
    assert found("*filter\n:OUTPUT DROP\n-A OUTPUT -o lo -j AC") == [("f:3:1", Code.RULES_SYNTAX), ("f:3:20", Code.RULES_NO_TARGET)]
    assert found("*filter\n*nat\nCOMMIT\n") == [("f:2:1", Code.RULES_SYNTAX)]


def test_a_second_table_of_one_name_empties_the_first():
    """As iptables-restore does, and it is said."""
    reading = read_save(f"{save('-A OUTPUT -j DROP')}*filter\nCOMMIT\n", "f", Family.IP)

    assert [each.severity for each in reading.findings] == [Severity.WARNING]
    assert [each.chains for each in reading.ruleset.tables] == [()]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("#!/bin/sh\niptables -P OUTPUT DROP\n", "f:1:1"),
        ("iptables -A OUTPUT -j DROP\n", "f:1:1"),
        ("\nsudo /sbin/ip6tables -w -A OUTPUT -j DROP\n", "f:2:1"),
        ("# rules\n$IPT -A OUTPUT -j DROP\n", "f:2:1"),
        ("#!/usr/sbin/nft -f\nflush ruleset\n", "f:1:1"),
        ("table inet filter {\n}\n", "f:1:1"),
        ('{"nftables": []}', "f:1:1"),
        ("# Generated by ebtables-save v1.0 on Sun\n*filter\n", "f:1:1"),
        ("Chain OUTPUT (policy DROP)\n", "f:1:1"),
        ("-P OUTPUT DROP\n-A OUTPUT -j DROP\n", "f:1:1"),
        ("*filter\n\0COMMIT\n", "f:2:1"),
    ],
)
def test_other_formats_are_recognised(text, place):
    """One finding that says what it is and what to give instead."""
    (finding,) = read_save(text, "f", Family.IP).findings

    assert (str(finding.place), finding.code, finding.severity) == (place, Code.RULES_UNREADABLE, Severity.ERROR)
    assert finding.help


def test_nothing_at_all_is_said():
    """An empty text has no table; rules before a table, and a table that iptables does not have, are errors."""
    assert found("") == [("f", Code.RULES_UNREADABLE)]
    assert found("good day\n") == [("f:1:1", Code.RULES_SYNTAX)]
    assert found("*broute\n:BROUTING ACCEPT\nCOMMIT\n")[0] == ("f:1:2", Code.RULES_SYNTAX)


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["-A OUTPUT -s ! 10.0.0.0/8 -j ACCEPT"], "f:5:14"),
        ([":mine DROP [0:0]"], "f:5:7"),
        (["# Warning: iptables-legacy tables present, use iptables-legacy-save to see them"], "f:5:1"),
        (["# Generated by ip6tables-save v1.8.9 on Sun"], "f:5:1"),
    ],
)
def test_what_can_be_read_in_two_ways_is_a_warning(lines, place):
    """The older place of `!`, a policy on one's own chain, tables of the other engine or family."""
    findings = read_save(save(*lines), "f", Family.IP).findings

    assert [(str(each.place), each.severity) for each in findings] == [(place, Severity.WARNING)]


@pytest.mark.parametrize("rest", ["*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", ""])
def test_chains_that_iptables_save_cant_list_may_do_anything(rest):
    """They stand beside the table's own: they can drop, mark and translate, and accept nothing that those drop."""
    reading = read_save(f"# Table `nat' contains incompatible base-chains, use 'nft' tool to list them.\n{rest}", "f", Family.IP)

    (table,) = reading.ruleset.tables
    beside = table.chain("OUTPUT (not listed)")
    assert beside.base.hook is Hook.OUTPUT
    assert [type(each) for each in beside.rules[0].statements] == [Unknown]
    assert [each.code for each in reading.findings] == [Code.RULES_ELSEWHERE]
    assert [str(each.place) for each in reading.approximations] == ["f:1:1"]


def test_a_policy_that_is_not_said_is_accept():
    """It is what the kernel begins with, and it is said when there are rules."""
    reading = read_save("*filter\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n", "f", Family.IP)

    assert reading.ruleset.tables[0].chain("OUTPUT").base.policy is Verdict.ACCEPT
    assert [each.code for each in reading.findings] == [Code.RULES_UNCLEAR]


def test_lines_that_end_as_in_windows_are_read_and_said():
    """Once for the whole file."""
    reading = read_save(save("-A OUTPUT -j DROP").replace("\n", "\r\n"), "f", Family.IP)

    assert [(str(each.place), each.severity) for each in reading.findings] == [("f:1:8", Severity.WARNING)]
    assert reading.ruleset.tables[0].chain("OUTPUT").rules[0].statements == (Verdict.DROP,)


def test_a_circle_of_chains_is_cut_and_said():
    """The kernel refuses it when a packet can come there; the model holds none in any case."""
    circle = [":a -", ":b -", "-A a -j b", "-A b -g a"]

    reached = read_save(save(*circle, "-A OUTPUT -j a"), "f", Family.IP)
    alone = read_save(save(*circle), "f", Family.IP)

    assert [(str(each.place), each.code, each.severity) for each in reached.findings] == [
        ("f:8:9", Code.RULES_LOOP, Severity.ERROR)
    ]
    assert [each.severity for each in alone.findings] == [Severity.WARNING]
    assert reached.ruleset.tables[0].chain("b").rules[0].statements == (Unknown("-A b -g a"),)


def test_a_chain_of_a_thousand_chains_is_no_circle():
    """No recursion of Python's own limits how deep chains may go."""
    chains = [f":c{number} -" for number in range(2000)]
    jumps = [f"-A c{number} -j c{number + 1}" for number in range(1999)]

    assert read_save(save(*chains, *jumps), "f", Family.IP).findings == ()


def test_the_other_versions_rules_are_left_out_by_their_mark():
    """`-4` and `-6` in a file for both programs."""
    both = save("-4 -A OUTPUT -s 10.0.0.1 -j DROP", "-A OUTPUT -6 -s 2001:db8::1 -j DROP")

    for family in (Family.IP, Family.IP6):
        reading = read_save(both, "f", family)
        assert reading.findings == ()
        assert len(reading.ruleset.tables[0].chain("OUTPUT").rules) == 1


def test_a_hundred_thousand_lines_are_read():
    """Of rules, and of nonsense, of which a hundred findings are shown and the others counted."""
    rules = read(*(f"-A OUTPUT -d 10.{each >> 16}.{each >> 8 & 255}.{each & 255}/32 -j DROP" for each in range(100_000)))
    nonsense = read(*(f"nonsense {each}" for each in range(100_000)))

    assert rules.findings == ()
    assert len(rules.ruleset.tables[0].chain("OUTPUT").rules) == 100_000
    assert len(nonsense.findings) == 101
    assert nonsense.findings[-1].message == "99900 more findings are not shown"
    assert nonsense.findings[-1].is_error


def test_messages_hold_no_control_characters():
    """What stands in a file can't move a terminal's cursor."""
    for finding in read("-A OUTPUT -s \x1b[2J", "\x1b[2J").findings:
        assert "\x1b" not in finding.message + finding.source + finding.help

"""What an attacker saw leave behind a proof, packet by packet: none of it is proved any more."""

from __future__ import annotations

import pytest

from failshut.audit.answer.result import Answer
from failshut.audit.prove import Sense, audit
from failshut.audit.world.infer import infer
from failshut.read import read_ruleset

BASE = """table inet mine {
	chain input { type filter hook input priority 0; policy drop; ct state established accept; }
	chain forward { type filter hook forward priority 0; policy drop; }
	chain output {
		type filter hook output priority 0; policy drop;
		oifname { "lo", "wg0" } accept
		ip daddr 203.0.113.7 udp dport 51820 accept
%s	}
}
"""


def leaks(text: str, families: tuple[int, ...] = (0, 4, 6)) -> set[Answer]:
    """Return how the questions for leaks are answered."""
    ruleset = read_ruleset(text.encode(), "rules").ruleset
    results = audit(ruleset, infer(ruleset))
    return {each.answer for each in results if each.question.sense is Sense.LEAK and each.family in families}


def test_the_rules_that_they_are_tried_with_are_proved():
    """The control, and what may stand beside them."""
    assert leaks(BASE % "") == {Answer.PROVED}
    inside = 'table netdev t { chain c { type filter hook egress device "wg0" priority 0; dup to "lo"; } }\n'
    assert leaks(BASE % "" + inside) == {Answer.PROVED}
    plain = "table ip t { chain c { type filter hook output priority -150; ip dscp set 2; } }\n"
    assert leaks(BASE % "" + plain) == {Answer.PROVED}


@pytest.mark.parametrize(
    "chain",
    [
        'type filter hook egress device "wg0" priority 0; dup to "eth0";',
        'type filter hook egress device "wg0" priority 0; ip daddr 1.2.3.4 fwd to "eth0";',
        'type filter hook egress device "lo" priority 0; udp dport 777 dup to "eth0";',
        'type filter hook ingress device "lo" priority 0; fwd to "eth0";',
    ],
)
def test_a_copy_from_a_tunnel_or_loopback_onto_the_underlay_is_no_proof(chain):
    assert Answer.PROVED not in leaks(BASE % "" + f"table netdev t {{ chain c {{ {chain} }} }}\n")


OFFLOAD = """table ip t {
    flowtable fast { hook ingress priority 0; devices = { eth0, eth1 }; }
    chain f { type filter hook forward priority -5; flow add @fast; }
}
"""
BELOW = "table netdev n { %s }\n"
SHUT = 'chain %s { type filter hook egress device "%s" priority 0; policy drop; }'


def test_what_is_offloaded_past_the_hooks_is_no_proof():
    """But where a chain below IP holds each of its devices (nft(8): a flowtable's packets pass neither forward nor postrouting)."""
    assert leaks(BASE % "" + OFFLOAD, (4,)) == {Answer.PROVED, Answer.POSSIBLE}
    assert leaks(BASE % "" + OFFLOAD, (6,)) == {Answer.PROVED}
    both = BELOW % "\n".join(SHUT % each for each in (("a", "eth0"), ("b", "eth1")))
    assert leaks(BASE % "" + OFFLOAD + both, (4,)) == {Answer.PROVED}
    assert leaks(BASE % "" + OFFLOAD + BELOW % (SHUT % ("a", "eth0")), (4,)) == {Answer.PROVED, Answer.POSSIBLE}


@pytest.mark.parametrize(
    ("family", "statement"),
    [
        ("ip", "ip daddr 1.2.3.4 ip dscp set 2"),
        ("ip", "ip daddr 1.2.3.4 ip ecn set ect1"),
        ("ip", "ip daddr 1.2.3.4 @nh,8,8 set 0x08"),
        ("ip6", "ip6 daddr 2001:db8:7::7 ip6 hoplimit set 3"),
        ("ip6", "ip6 daddr 2001:db8:7::7 ip6 flowlabel set 3"),
        ("ip6", "ip6 daddr 2001:db8:7::7 ip6 dscp set 2"),
    ],
)
def test_whatever_a_packet_is_routed_anew_for_is_a_leak_behind_a_filter_at_output(family, statement):
    """Not its mark and addresses alone (nf_route_table_hook4, nf_route_table_hook6)."""
    chain = f"table {family} t {{ chain c {{ type route hook output priority -150; {statement}; }} }}\n"

    assert Answer.LEAK in leaks(BASE % "" + chain)


def test_the_same_by_iptables():
    text = """*mangle
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 1.2.3.4/32 -j TOS --set-tos 0x08/0xff
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
COMMIT
"""
    without = "".join(line for line in text.splitlines(keepends=True) if "TOS" not in line)

    assert Answer.LEAK in leaks(text, (4,))
    assert leaks(without, (4,)) == {Answer.PROVED}


@pytest.mark.parametrize(("shortest", "answers"), [("> 0", {Answer.PROVED}), (">= 20", {Answer.PROVED}), ("> 60", {Answer.LEAK})])
def test_every_packet_is_as_long_as_its_header(shortest, answers):
    """No false alarm for a drop that asks for less; the control asks for more."""
    chain = f'type filter hook postrouting priority 300; oifname {{ "lo", "wg0" }} accept; meta length {shortest} drop;'
    assert leaks(f"table ip t {{ chain c {{ {chain} }} }}", (4,)) == answers

"""iptables' own translator as a second opinion: what it says of a rule in nft's language is what our reader says of it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from failshut.model.ruleset import AnySet, Counter, Ct, Family, Match, Meta, Op, Payload, Statement
from failshut.read.iptables import read_save
from failshut.read.nft.text import read_text
from iptables_rules import ALONE, save

# `-j ACCEPT` follows the matches.
MATCHES = [
    "-s 10.0.0.0/8",
    "! -d 192.0.2.7",
    "-o wg+",
    "! -o lo",
    "-p tcp --dport 443",
    "-p udp ! --sport 1000:2000",
    "-p tcp -m multiport --dports 80,443:445",
    "-p icmp --icmp-type echo-request",
    "-m conntrack --ctstate RELATED,ESTABLISHED",
    "-m conntrack ! --ctstate NEW",
    "-m conntrack --ctdir REPLY",
    "-m mark --mark 0x10/0xf0",
    "-m mark ! --mark 0xca6c",
    "-m connmark --mark 1",
    "-m owner --uid-owner 1000",
    "-m owner --gid-owner 5-9",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --dst-type LOCAL,MULTICAST",
    "-m addrtype --dst-type LOCAL --limit-iface-out",
    "-m pkttype --pkt-type multicast",
    "-m ttl --ttl-lt 5",
    "-m dscp --dscp 10",
    "-m cgroup --cgroup 5",
    "-m devgroup --dst-group 1/0xf",
    "-p sctp --dport 9",
    "-f",
    "-m limit --limit 3/min --limit-burst 9",
]
TARGETS = [
    "-j DROP",
    "-j RETURN",
    "-p tcp -j REJECT --reject-with tcp-reset",
    "-j REJECT --reject-with icmp-admin-prohibited",
    '-j LOG --log-prefix "x" --log-level 7',
    "-j NFLOG --nflog-group 3",
    "-j MARK --set-xmark 0x5/0xffffffff",
    "-j CONNMARK --save-mark",
    "-j CONNMARK --restore-mark",
    "-j CONNMARK --set-mark 5",
]
# What nft lists of `-p`, in a table of one family or of two.
PROTOCOLS = (Meta("l4proto"), Payload("ip", "protocol"))
STATES = frozenset({"invalid", "new", "established", "related", "untracked"})

pytestmark = pytest.mark.skipif(
    not shutil.which("iptables-restore-translate"), reason="iptables-restore-translate is not installed"
)


def translated(line: str) -> tuple[Statement, ...]:
    """Return what nft lists of the translation of a rule, loaded in a namespace of its own."""
    translate = f"iptables-restore-translate -f /dev/stdin <<'END' | nft -f -\n{save(line)}END\n"
    done = subprocess.run(
        [*ALONE, "sh", "-e"],
        input=f"{translate}nft list ruleset\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (rule,) = read_text(done.stdout, "nft list ruleset").ruleset.table(Family.IP, "filter").chain("OUTPUT").rules
    return rule.statements


def plain(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return the statements as nft lists them: no counters, no protocol that a header's field implies, states not negated."""
    headers = {each.left.protocol for each in statements if isinstance(each, Match) and isinstance(each.left, Payload)}
    kept = [each for each in statements if not isinstance(each, Counter)]
    kept = [each for each in kept if not (isinstance(each, Match) and each.left in PROTOCOLS and each.right in headers)]
    return tuple(_states(each) for each in kept)


def _states(each: Statement) -> Statement:
    match each:
        case Match(Ct("state"), AnySet(elements), Op.IN):
            return Match(Ct("state"), AnySet(tuple(sorted(map(str, elements)))), Op.IN)
        case Match(Ct("state"), str(state), Op.NOT_IN | Op.NE):
            return Match(Ct("state"), AnySet(tuple(sorted(STATES - {state}))), Op.IN)
        case Match(Meta("l4proto") | Payload("ip", "protocol"), right):
            return Match(Meta("l4proto"), right, each.op)
        case _:
            return each


@pytest.mark.parametrize("line", [*(f"{each} -j ACCEPT" for each in MATCHES), *TARGETS])
def test_our_reading_is_iptables_own_translation(line):
    """The same statements, by a way that has no line of ours in common with it but nft's reader."""
    (rule,) = read_save(save(f"-A OUTPUT {line}"), "rules", Family.IP).ruleset.tables[0].chain("OUTPUT").rules

    assert plain(rule.statements) == plain(translated(f"-A OUTPUT {line}"))

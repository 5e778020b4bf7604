"""Random rules and random packets: the kernel counts with iptables' own code what the model says by nftables' words."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from failshut.audit.concrete import values as concrete
from failshut.audit.netfilter.words import NotUnderstoodError
from failshut.model.ruleset import Match
from iptables_rules import ALONE, CHAINS, read

SENDER = Path(__file__).parents[1] / "support/iptables_sender.py"
# What the namespace's routing table says of them: local 2, unicast 1, broadcast 3, multicast 5.
TARGETS = {"127.0.0.9": 2, "10.5.0.1": 2, "10.5.7.7": 1, "10.5.0.2": 1, "10.5.255.255": 3, "224.0.0.5": 5}
PORTS = (1, 53, 80, 443, 1000, 51820, 65534)
MARKS = (0, 1, 2, 0x10, 0xCA6C, 0xFFFFFFFF)
RULES, PACKETS = 300, 60
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT")


def a_packet(dice):
    """Return a packet that nothing answers: another machine's, or an ICMP answer to no request."""
    target = dice.choice(list(TARGETS))
    local = TARGETS[target] == 2
    kind = "icmp" if local else dice.choice(["udp", "icmp"])
    return {
        "kind": kind,
        "target": target,
        "source": "127.0.0.1" if target.startswith("127") else "10.5.0.1",
        "sport": dice.choice(PORTS),
        "dport": dice.choice(PORTS),
        "icmp": 0 if local else dice.choice([0, 8]),
        "mark": dice.choice(MARKS),
        "uid": dice.choice([0, 1000]),
        "gid": dice.choice([0, 7]),
        "ttl": dice.choice([9, 64]),
        "tos": dice.choice([0, 0x28, 0xB8]),
        "payload": 2 * dice.randrange(101),
    }


def modelled(packet):
    """Return the packet as the evaluator takes it."""
    local, udp = TARGETS[packet["target"]] == 2, packet["kind"] == "udp"
    fields = {"nfproto": 2, "l4proto": 17 if udp else 1, "oifname": "lo" if local else "d0", "stage": "output", "socket": 1}
    fields |= {"ip saddr": int(IPv4Address(packet["source"])), "ip daddr": int(IPv4Address(packet["target"]))}
    fields |= {"mark": packet["mark"], "skuid": packet["uid"], "skgid": packet["gid"], "hop limit": packet["ttl"]}
    fields |= {"ip dscp": packet["tos"] >> 2, "ip length": 28 + packet["payload"]}
    fields |= {"fib daddr type @output": TARGETS[packet["target"]], "fib saddr type @output": 2}
    # A request opens a connection; an answer to none belongs to none.
    fields["ct state"] = 8 if udp or packet["icmp"] == 8 else 1
    return fields | ({"sport": packet["sport"], "dport": packet["dport"]} if udp else {"icmp type": packet["icmp"]})


def a_rule(dice):
    """Return a rule without a target: it only counts."""

    def no():
        return dice.choice(("", "! "))

    def pick(*choice):
        return dice.choice(choice)

    def some(choice, most):
        return ",".join(dice.sample(choice, dice.randint(1, most)))

    def place():
        return f"{pick(*TARGETS)}{pick('', '/0', '/1', '/8', '/16', '/24', '/31', '/255.0.255.0', '/0.0.0.255')}"

    def port():
        low, high = sorted((pick(*PORTS), pick(*PORTS)))
        return pick(str(low), f"{low}:{high}", f":{high}", f"{low}:")

    mask, mark = pick(0xFFFFFFFF, 0xFF, 1, 0), pick(*MARKS)
    protocol = pick("", "-p udp", "-p icmp", "! -p udp", "-p tcp")
    with_ports = [
        f"--dport {port()}",
        f"-m udp {no()}--sport {port()} {no()}--dport {port()}",
        "-m udp",
        f"-m multiport {no()}--{pick('ports', 'sports', 'dports')} {port()},53,{port()}",
    ]
    icmp = [f"-m icmp {no()}--icmp-type {pick('8', '0', 'any', '3', '8/0', '3/1')}", ""]
    others = [
        f"-m mark {no()}--mark {mark:#x}/{mask:#x}",
        f"-m mark {no()}--mark {mark & mask:#x}/{mask:#x}",
        f"-m conntrack {no()}--ctstate {some(STATES, 4)}",
        f"-m conntrack {no()}--ctstate {some(STATES, 3)} --ctdir {pick('ORIGINAL', 'REPLY')}",
        f"-m conntrack {no()}--ctproto {pick('udp', 'icmp')}",
        f"-m connmark {no()}--mark 0x0/{mask:#x}",
        f"-m state {no()}--state {some(STATES[:5], 3)}",
        f"-m owner {no()}--uid-owner {pick('0', '1000', '0-500', '1000-2000')}",
        f"-m owner {no()}--uid-owner {pick('0', '1000')} {no()}--gid-owner {pick('0', '7')}",
        f"-m addrtype {no()}--dst-type {some(('LOCAL', 'UNICAST', 'BROADCAST', 'MULTICAST'), 2)}",
        f"-m iprange {no()}--dst-range 10.5.0.1-10.5.0.{pick(1, 2, 9)}",
        f"-m length {no()}--length {pick('28', '29:60', ':100', '100:')}",
        f"-m ttl {pick('--ttl-eq 9', '! --ttl-eq 9', '--ttl-lt 64', '--ttl-gt 9')}",
        f"-m dscp {no()}--dscp {pick(0, 10, 46)}",
    ]
    parts = [f"{no()}-{pick('s', 'd')} {place()}", f"{no()}-o {pick('lo', 'd0', 'd+', 'eth0')}", pick(*others), pick(*others)]
    parts = dice.sample(parts, dice.randrange(4))
    own = {"-p udp": pick(*with_ports), "-p icmp": pick(*icmp), "-p tcp": "-m tcp --dport 53"}.get(protocol, "")
    return " ".join(each for each in ("-A OUTPUT", *sorted(parts, key=lambda each: " -m" in f" {each}"), protocol, own) if each)


def says(made, packet):
    """Return how many of the rules that a line makes a packet matches; None when the evaluator can't compute one."""
    values = concrete.Values(modelled(packet), None)
    try:
        return sum(all(concrete.compare(values, each) for each in rule.statements) for rule in made)
    except (NotUnderstoodError, AttributeError):
        return None


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the kernel takes no rule about another user")
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_the_kernel_counts_as_the_model_says(program):
    """Every rule of every packet: counted as often as the model's rules for it match."""
    if not shutil.which(f"{program}-restore"):
        pytest.skip(f"{program} is not installed: nobody to ask")
    dice = random.Random(program)  # noqa: S311 - the same rules and packets every time
    # The same five numbers again would be a known connection.
    sent = {(each["target"], each["dport"]): each for each in (a_packet(dice) for _ in range(PACKETS))}
    rules = sorted({a_rule(dice) for _ in range(RULES)})
    work = {"program": program, "rules": rules, "packets": list(sent.values())}
    done = subprocess.run(
        [*ALONE, sys.executable, SENDER], input=json.dumps(work), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    reading = read(*answer["taken"])
    made = {number: [] for number in range(len(answer["taken"]))}
    for each in reading.ruleset.tables[0].chain("OUTPUT").rules:
        made[each.origin.line - len(CHAINS["filter"]) - 2].append(each)

    compared = matched = 0
    for packet, counted in zip(work["packets"], answer["counted"], strict=True):
        for number, rule in enumerate(answer["taken"]):
            if not all(isinstance(each, Match) for one in made[number] for each in one.statements):
                continue
            expected = says(made[number], packet)
            assert expected in (None, counted[number]), (rule, packet)
            compared += expected is not None
            matched += bool(expected)
    assert compared > RULES * PACKETS / 20
    assert compared / 20 < matched < compared * 19 / 20, "the control: some match, some don't"

"""A lock that leaks is refused before it is loaded, whoever wrote it: its text is read back and proved."""

from __future__ import annotations

import json
import re
import sys

import pytest

from sandbox import CONFIG, POLICY

pytestmark = pytest.mark.lab

# failshut with a compiler that makes one mistake, with or without the audit.
TAMPERED = """
import sys
from dataclasses import replace
from failshut.arming import arm
from failshut.arming.backends import nftables
from failshut.cli.main import main
from failshut.read.nft.text import read_text

chain, before, rule, audited = sys.argv[1:5]
text = "table inet failshut { chain allowed { }\\nchain it {\\n" + rule + "\\n} }"
(mistake,) = read_text(text, "mistake").ruleset.tables[0].chain("it").rules

def with_mistake(rules):
    at = next(index for index, each in enumerate(rules) if each.comment == before)
    return (*rules[:at], mistake, *rules[at:])

def lower(policy, facts, right=nftables.lower):
    made = right(policy, facts)
    tables = [
        replace(table, chains=tuple(
            replace(each, rules=with_mistake(each.rules)) if each.name == chain else each for each in table.chains
        )) for table in made.tables
    ]
    return replace(made, tables=tuple(tables))

nftables.lower = lower
if audited == "unaudited":
    arm.must_be_proved = lambda *_, **__: True
sys.argv[1:] = sys.argv[5:]
main()
"""
# Sends a datagram to a site on the Internet; says whether it came out at the cable's other end within two seconds.
SEND = """
import socket, sys
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
cable.bind(("cable", 0))
cable.settimeout(2)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    sender.sendto(b"in the clear", ("198.51.100.7", 9999))
except PermissionError:
    pass
try:
    while b"in the clear" not in cable.recv(2048):
        pass
    print("seen")
except TimeoutError:
    print("not seen")
"""
MISTAKE = ("underlay", "source", "udp dport 9999 goto allowed")


def arm(sandbox, mistake, *argv: str, audited: bool = True):
    word = "audited" if audited else "unaudited"
    return sandbox.run(sys.executable, "-c", TAMPERED, *mistake, word, "arm", *argv)


def rules(sandbox) -> str:
    return sandbox.run("nft", "--stateless", "list", "ruleset").stdout


def leaks(sandbox) -> bool:
    return sandbox.run("python3", "-c", SEND).stdout.strip() == "seen"


@pytest.fixture
def machine(sandbox):
    """A machine with a way to the Internet past the tunnel."""
    sandbox.adopt_example()
    router = ("192.168.50.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    assert sandbox.run("ip", "neigh", "replace", *router).returncode == 0
    assert sandbox.run("ip", "route", "add", "default", "via", "192.168.50.1").returncode == 0
    return sandbox


def test_a_lock_that_leaks_is_refused_with_its_packet_and_rule(machine):
    """Exit 12, the witness, the line, the rule; not a rule and not a file of it is there. It would have leaked: the control."""
    before = machine.fingerprint()

    done = arm(machine, MISTAKE)

    assert done.returncode == 12, done.stderr
    assert "this lock would leak" in done.stderr
    assert re.search(r":9999 leaves \S+ .*, by the transaction:\d+: udp dport 9999 goto allowed", done.stderr), done.stderr
    assert machine.fingerprint() == before

    assert arm(machine, MISTAKE, audited=False).returncode == 0
    assert leaks(machine), "the control: loaded unproved, it does leak"


def test_refused_while_armed_the_lock_that_stands_goes_on_to_hold(machine):
    """Arming again with the mistake changes nothing: same rules, same files, and the packet is blocked."""
    assert machine.failshut("arm").returncode == 0
    # Where nothing has changed, nothing is compiled.
    machine.run("sh", "-c", "echo '# another word' >> /etc/failshut/failshut.toml")
    before, stands = machine.fingerprint(), rules(machine)

    done = arm(machine, MISTAKE)

    assert done.returncode == 12, done.stderr
    assert (machine.fingerprint(), rules(machine)) == (before, stands)
    assert not leaks(machine)


@pytest.mark.parametrize(
    "mistake",
    [
        ("underlay", "allow:dhcp", 'iifname "other0" ip daddr 10.0.0.0/8 goto allowed'),
        ("admit", "arp", "ether type ip accept"),
        ("allowed-on-link", "hop-limit", "accept"),
    ],
    ids=["forwarded", "below-ip", "hop-limit"],
)
def test_every_part_of_the_lock_is_looked_at(machine, mistake):
    """A mistake in whichever chain: exit 12, and nothing is loaded."""
    done = arm(machine, mistake)

    assert done.returncode == 12, done.stderr
    assert "failshut" not in rules(machine)


@pytest.mark.parametrize(
    "mistake",
    [("timed-underlay", "timed:to", "tcp dport 443 goto allowed"), ("timed", "dns", "ip daddr @timed-lan4 goto outside-mark")],
    ids=["a-port", "names-of-a-timed-lan"],
)
def test_what_is_open_for_a_time_is_looked_at_too(machine, mistake):
    """A mistake in the rules for it: exit 12 while something is open, and the lock that stands goes on to hold."""
    assert machine.failshut("arm").returncode == 0
    assert machine.failshut("allow", "to", "192.0.2.7:9/udp", "--for", "10m").returncode == 0
    machine.run("sh", "-c", "echo '# another word' >> /etc/failshut/failshut.toml")
    stands = rules(machine)

    done = arm(machine, mistake)

    assert done.returncode == 12, done.stderr
    assert rules(machine) == stands


def test_what_can_t_be_decided_is_not_armed_unless_one_knows(machine):
    """A rule that asks for what the audit knows nothing of: exit 4 and its place; with --i-know it is armed, as undecided."""
    doubtful = ("underlay", "source", "udp dport 9999 ct bytes > 1000 goto allowed")

    refused = arm(machine, doubtful)
    known = arm(machine, doubtful, "--i-know", "--json")

    assert refused.returncode == 4, refused.stderr
    assert "can't be decided" in refused.stderr
    assert "ct bytes > 1000" in refused.stderr
    assert known.returncode == 0, known.stderr
    assert json.loads(known.stdout)["audit"] == "undecided"


def test_an_honest_lock_is_armed_and_says_that_it_was_proved(sandbox):
    """With everything in its policy that there is: exit 0, `audit` is `proved`."""
    more = """
dns = true
multicast = true
[[allow.inbound]]
name = "ssh"
port = 22
on_demand = true
[[allow.outbound]]
name = "ntp"
protocol = "udp"
to = ["192.0.2.123"]
port = 123
[allow.tailscale]
[outside]
prefixes = ["198.51.100.0/24"]
dns = ["192.0.2.53"]
"""
    sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
    sandbox.write("/etc/failshut/failshut.toml", POLICY + more)

    done = sandbox.failshut("arm", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audit"] == "proved"


def test_without_the_prover_nothing_is_armed_unless_one_knows(sandbox):
    """z3 can't be loaded: arm and audit say so and exit with 4; --i-know arms, and says undecided."""
    sandbox.adopt_example()
    sandbox.write("/run/broken/z3.py", 'raise OSError("libz3 is for another processor")\n')
    broken = {"PYTHONPATH": "/run/broken"}

    refused = sandbox.failshut("arm", env=broken)
    audited = sandbox.failshut("audit", env=broken)

    assert (refused.returncode, audited.returncode) == (4, 4)
    assert "libz3 is for another processor" in refused.stderr
    assert "libz3 is for another processor" in audited.stderr
    assert "failshut" not in rules(sandbox)

    known = sandbox.failshut("arm", "--i-know", "--json", env=broken)
    assert known.returncode == 0, known.stderr
    assert json.loads(known.stdout)["audit"] == "undecided"

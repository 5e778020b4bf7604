"""`failshut audit` without a file: what the running kernel holds, every table of every engine, against the policy."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

from grouped import INTERNET4, Grouped, needs_programs

# Sent by a program of nobody's in particular, with what a foreign rule could make of it.
SAY = """
import os, socket
os.setuid(1000)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    try:
        sock.sendto(b"in the clear", ("198.51.100.7", 9001))
    except OSError:
        pass
"""
# Chains of others, in a table of all IP, that open nothing.
FOREIGN = {
    "re-routes by the tunnel's mark": "type route hook output priority -150; ip daddr 198.51.100.7 meta mark set 0xca6c",
    "accepts everything": "type filter hook postrouting priority 2147483647; accept",
    "translates to the endpoint": (
        "type nat hook output priority -100; ip daddr 198.51.100.7 udp dport 9001 dnat ip to 203.0.113.10:51820"
    ),
    "masquerades everything": "type nat hook postrouting priority 99; masquerade",
    "writes a mark like ours": "type filter hook postrouting priority 0; meta mark set 0x10000000",
}

pytestmark = pytest.mark.lab


@pytest.fixture
def armed():
    """A machine with a tunnel that works, and a lock that knows a LAN and programs outside."""
    needs_programs()
    with Grouped() as private:
        private.arm('[allow.lan]\nprefixes = ["192.168.50.0/24"]', "[outside]", "[allow]\nportal = true")
        yield private


def audit(machine) -> tuple[int, dict]:
    done = machine.failshut("audit", "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def leaking(told) -> set[str]:
    return {each["property"] for each in told["properties"] if each["answer"] == "leak" and each["sense"] == "leak"}


def in_the_clear(machine) -> bool:
    """Whether what a program sends to the Internet is seen on the cable."""
    machine.watch()
    machine.must("/usr/bin/python3", "-c", SAY)
    return any(each.device == "cable" and "in the clear" in each.payload for each in machine.seen())


def add_chain(machine, family: str, text: str, *, name: str = "c") -> None:
    machine.must("nft", "-f", "-", stdin=f"table {family} other {{\nchain {name} {{\n{text}\n}}\n}}\n")


def mark_in(machine, chain: str) -> str:
    """Return the mark that a chain of the lock writes."""
    listed = machine.must("nft", "list", "chain", "inet", "failshut", chain)
    return re.search(r"(?<!ct mark set ct )\bmeta mark set (0x[0-9a-f]+)", listed)[1]


def test_the_armed_lock_is_proved(armed):
    """Judged by the policy: exit 0, nothing leaks, the tunnel works, nothing is open; and the packets say so."""
    code, told = audit(armed)

    assert code == 0
    assert told["world"]["by_policy"]
    assert (leaking(told), told["works"], told["opened"]) == (set(), True, [])
    armed.must("wg-quick", "down", "wg0")
    assert not in_the_clear(armed)


def test_what_is_open_for_a_time_is_named_and_no_leak(armed):
    """A site, a network, a program outside: exit 0, and each opening is said with its time; revoked, nothing is said."""
    for words in (("to", f"{INTERNET4}:9001/udp"), ("lan", "192.168.51.0/24")):
        assert armed.failshut("allow", *words, "--for", "10m").returncode == 0
    assert armed.outside_of_tunnel("true").returncode == 0

    code, told = audit(armed)
    said = armed.failshut("audit").stdout

    assert (code, leaking(told)) == (0, set())
    assert {(each["set"], each["element"]) for each in told["opened"]} == {
        ("timed-to4", f"{INTERNET4} . udp . 9001"),
        ("timed-lan4", "192.168.51.0/24"),
    }
    assert all(0 < each["left"] <= each["timeout"] == 600 and each["allowed"] for each in told["opened"])
    assert f"opened  timed-to4: {INTERNET4} . udp . 9001, " in said
    assert armed.failshut("revoke", "--all").returncode == 0
    assert audit(armed)[1]["opened"] == []


def test_an_element_that_somebody_added_for_ever_is_a_leak(armed):
    """By hand and without an end: exit 12, as the packet says; with an end it is an opening."""
    assert armed.failshut("allow", "to", f"{INTERNET4}:9/udp", "--for", "10m").returncode == 0
    armed.must("wg-quick", "down", "wg0")
    armed.must("nft", "add", "element", "inet", "failshut", "timed-to4", f"{{ {INTERNET4} . udp . 9001 }}")

    code, told = audit(armed)

    assert code == 12
    assert "policy" in leaking(told)
    assert [each["allowed"] for each in told["opened"] if each["element"] == f"{INTERNET4} . udp . 9001"] == [False]
    assert in_the_clear(armed)


def test_another_control_group_among_the_programs_is_a_leak(armed):
    """The slice of the policy is allowed; a group that somebody put beside it is not, and is named."""
    armed.must("mkdir", "-p", "/sys/fs/cgroup/other.slice/other-two.slice")
    assert armed.outside_of_tunnel("true").returncode == 0
    assert audit(armed)[0] == 0

    armed.must("nft", "add", "element", "inet", "failshut", "outside-programs", '{ "other.slice/other-two.slice" }')
    done = armed.failshut("audit")

    assert done.returncode == 12, done.stdout
    assert "of other.slice/other-two.slice" in done.stdout


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_table_leaks_in_the_audit_where_it_leaks_in_packets(armed, name):
    """Re-routing, accepting, translating beside the lock: nothing leaves, and that is proved."""
    add_chain(armed, "inet", FOREIGN[name])
    armed.must("wg-quick", "down", "wg0")

    code, told = audit(armed)

    assert not in_the_clear(armed)
    assert (code, leaking(told)) == (0, set())


def test_a_foreign_table_that_writes_our_own_mark_leaks_in_both(armed):
    """Root knows this machine's mark of what is outside, and may write it where the lock no longer takes it off: exit 12, packets.

    Before the lock's chain at output, which would take it off, the packet gets the tunnel's mark: the choke point is to judge it.
    """
    armed.must("wg-quick", "down", "wg0")
    outside = mark_in(armed, "outside-mark")
    add_chain(armed, "inet", f"type filter hook output priority 0; ip daddr {INTERNET4} meta mark set 0xca6c", name="first")
    add_chain(armed, "inet", f"type filter hook postrouting priority 0; ip daddr {INTERNET4} meta mark set {outside}")

    code, told = audit(armed)

    assert in_the_clear(armed)
    assert code == 12
    assert "policy" in leaking(told)


def test_a_foreign_table_that_stamps_frames_opens_the_layer_under_ip(armed):
    """The stamp, written before the lock's own layer looks for it: a note, because it takes CAP_NET_RAW to send such frames."""
    add_chain(armed, "netdev", f"type filter hook egress device eth0 priority -1; meta mark set {mark_in(armed, 'allowed')}")

    code, told = audit(armed)

    below = {each["property"]: each["answer"] for each in told["properties"] if each["property"] == "below-ip"}
    assert below == {"below-ip": "leak"}
    assert code == 0


def test_without_our_table_everything_leaks_and_that_is_said_plainly(armed):
    """The tables are deleted: exit 12, a witness, one plain line; and the packet is seen."""
    armed.must("wg-quick", "down", "wg0")
    for table in ("inet", "arp", "netdev"):
        armed.must("nft", "delete", "table", table, "failshut")
    # The guard's own, where one holds.
    armed.run("nft", "flush", "ruleset")

    done = armed.failshut("audit")

    assert done.returncode == 12
    assert "no rule refuses anything" in done.stdout
    assert "leaves eth0" in done.stdout
    assert in_the_clear(armed)


def test_a_machine_that_never_had_a_lock_leaks(sandbox):
    """A default Linux, without policy and rules: exit 12 and the same plain line, on both address families."""
    done = sandbox.failshut("audit")

    assert done.returncode == 12
    assert "no rule refuses anything" in done.stdout
    assert "198.51.100.80:443" in done.stdout
    assert "[2001:db8:beef::80]:443" in done.stdout
    assert "warning" not in done.stderr


def test_without_root_the_kernel_is_not_asked(sandbox):
    """Exit 4, and the remedy."""
    done = sandbox.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "failshut", "audit")

    assert done.returncode == 4, done.stderr
    assert "root" in done.stderr


def test_rules_that_only_iptables_lists_are_asked_for_where_su_leaves_no_sbin_in_the_path(sandbox):
    """Debian's `su` keeps the user's PATH: the legacy engine's rules, which nft does not list, are judged all the same."""
    if sandbox.run("iptables-legacy", "-P", "OUTPUT", "DROP").returncode:
        pytest.skip("iptables-legacy does not work here")
    sandbox.must("ip6tables-legacy", "-P", "OUTPUT", "DROP")
    python = sys.executable

    done = sandbox.run("env", "PATH=/usr/local/bin:/usr/bin:/bin", python, "-m", "failshut", "audit")

    assert "no rule refuses anything" not in done.stdout, done
    assert "proved" in done.stdout, done


@pytest.mark.parametrize("engine", ["nft", "legacy"])
def test_iptables_beside_the_lock_opens_nothing_and_alone_leaks(armed, engine):
    """Both engines' rules are read: an ACCEPT beside the lock changes nothing; once the lock is gone it is what leaks."""
    program = f"iptables-{engine}"
    if shutil.which(program) is None or armed.run(program, "-A", "OUTPUT", "-d", INTERNET4, "-j", "ACCEPT").returncode:
        pytest.skip(f"{program} does not work here")
    armed.must(program, "-P", "OUTPUT", "DROP")
    armed.must(program, "-I", "OUTPUT", "-o", "wg0", "-j", "ACCEPT")
    armed.must(program, "-I", "OUTPUT", "-p", "udp", "--dport", "51820", "-j", "ACCEPT")

    code, told = audit(armed)
    assert (code, leaking(told)) == (0, set()), told

    armed.must("wg-quick", "down", "wg0")
    assert not in_the_clear(armed)
    for table in ("inet", "arp", "netdev"):
        armed.must("nft", "delete", "table", table, "failshut")
    done = armed.failshut("audit")

    assert done.returncode == 12
    assert f"{INTERNET4}" in done.stdout
    assert in_the_clear(armed), "the control: that rule lets it out"

"""The lock by iptables: armed, seen, put back by the boot's loader, disarmed; the user's rules stay; bad ground is found first."""

from __future__ import annotations

import json
import shutil

import pytest

from sandbox import CONFIG, POLICY

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not shutil.which("iptables-restore"), reason="iptables is not installed"),
]
WITH_IPTABLES = POLICY + '\n[backend]\nuse = "iptables"\n'
USERS = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
# mine
-A OUTPUT -d 198.51.100.7/32 -j DROP
COMMIT
"""


@pytest.fixture
def machine(sandbox):
    """A machine whose policy names iptables, with a rule of the user's."""
    sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
    sandbox.write("/etc/failshut/failshut.toml", WITH_IPTABLES)
    sandbox.run("iptables", "-A", "OUTPUT", "-d", "198.51.100.7", "-j", "DROP")
    return sandbox


def rules(sandbox) -> str:
    """Return every rule, and every chain that is the user's or refuses by its policy, of both families."""
    saved = sandbox.run("sh", "-c", "iptables-save; ip6tables-save").stdout
    return "".join(f"{line.partition(' [')[0]}\n" for line in saved.splitlines() if line[:1] in "-:" and " ACCEPT [" not in line)


def state(sandbox) -> str:
    return json.loads(sandbox.failshut("status", "--json").stdout)["state"]


def leaves(sandbox) -> bool:
    """Whether a packet to an address beyond the LAN can be sent."""
    code = 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.168.50.9", 53))'
    return sandbox.run("python3", "-c", code).returncode == 0


def test_armed_seen_put_back_and_disarmed(machine):
    """Arm, see drift by another's edit, have the loader put it right, re-arm, disarm: what was there before is there again."""
    before = rules(machine)
    assert leaves(machine), "the control: without the lock a question to the LAN's resolver leaves"

    armed = machine.failshut("arm")
    assert armed.returncode == 0, armed.stderr
    assert state(machine) == "armed"
    assert not leaves(machine)
    assert "not held   the layer under IP" in machine.failshut("status").stdout
    assert "-A OUTPUT -d 198.51.100.7/32 -j DROP" in rules(machine)

    machine.run("iptables", "-t", "mangle", "-F", "POSTROUTING")
    machine.run("iptables", "-I", "OUTPUT", "1", "-j", "ACCEPT")
    assert leaves(machine)
    assert state(machine) == "drift"
    assert machine.run("sh", "/etc/failshut/load").returncode == 0
    assert not leaves(machine)
    machine.run("iptables", "-D", "OUTPUT", "-j", "ACCEPT")
    assert state(machine) == "armed"
    assert machine.failshut("arm").returncode == 0

    done = machine.failshut("disarm", "--yes")
    assert done.returncode == 0, done.stderr
    assert rules(machine) == before
    assert leaves(machine)


def test_a_boot_from_damaged_files_shuts_everything(machine):
    """The loader takes the last good lock, and without a whole one lets nothing out."""
    assert machine.failshut("arm").returncode == 0
    machine.run("sh", "-c", "iptables -t mangle -F; ip6tables -t mangle -F; truncate -s 200 /etc/failshut/armed/*/lock.v4")

    machine.run("sh", "/etc/failshut/load")

    assert "--comment everything -j DROP" in machine.run("iptables", "-t", "mangle", "-S").stdout
    assert "--comment everything -j DROP" in machine.run("ip6tables", "-t", "mangle", "-S").stdout
    assert not leaves(machine)


def test_the_files_of_netfilter_persistent_keep_the_users_rules(machine):
    """rules.v4 gets our chains among the user's lines, loads as a whole, and is the user's own again when the lock is off."""
    machine.write("/etc/systemd/system/netfilter-persistent.service", "[Unit]\n")
    machine.write("/etc/iptables/rules.v4", USERS)

    armed = machine.failshut("arm")
    assert armed.returncode == 0, armed.stderr
    merged = machine.read("/etc/iptables/rules.v4")
    assert all(line in merged.splitlines() for line in USERS.splitlines())
    assert machine.run("iptables-restore", stdin=merged).returncode == 0
    assert machine.run("ip6tables-restore", stdin=machine.read("/etc/iptables/rules.v6")).returncode == 0
    assert not leaves(machine)

    assert machine.failshut("disarm", "--yes").returncode == 0
    assert machine.read("/etc/iptables/rules.v4") == USERS
    assert machine.run("test", "-e", "/etc/iptables/rules.v6").returncode


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("printf '*filter\\n-A OUTPUT -j NOWHERE\\nCOMMIT\\n' >/etc/iptables/rules.v4", "rules.v4:2:"),
        ("printf '*filter\\n:OUTPUT ACCEPT [0:0]\\n' >/etc/iptables/rules.v4", "rules.v4:"),
        ("chown 1234 /etc/iptables/rules.v4", "belongs to user 1234"),
        ("chmod 666 /etc/iptables/rules.v4", "can be written by others"),
        ("iptables-legacy -A OUTPUT -d 192.0.2.1 -j DROP", "both engines"),
    ],
    ids=["a rule that leads nowhere", "half a file", "another's file", "everybody's file", "both engines in use"],
)
def test_bad_ground_is_found_before_anything_is_changed(machine, spoil, said):
    """The message names the file and the line, and neither the kernel nor a file is another than before."""
    machine.write("/etc/systemd/system/netfilter-persistent.service", "[Unit]\n")
    machine.write("/etc/iptables/rules.v4", USERS)
    assert machine.run("sh", "-c", spoil).returncode == 0
    before = rules(machine), machine.read("/etc/iptables/rules.v4")

    done = machine.failshut("arm")

    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert (rules(machine), machine.read("/etc/iptables/rules.v4")) == before
    assert state(machine) == "disarmed"


def test_what_iptables_cant_do_is_refused_by_name(machine):
    """None of these may say that there is no lock, that something is open, or that the monitor watches."""
    assert machine.failshut("arm").returncode == 0
    before = rules(machine)

    for verb in ("allow 198.51.100.7 --for 10m", "portal", "refresh", "log --for 10m", "watch --for 1s", "monitor"):
        done = machine.failshut(*verb.split())
        assert done.returncode == 1, verb
        assert "iptables, by which the lock was armed, can't do that" in done.stderr, verb

    assert rules(machine) == before
    assert state(machine) == "armed"


def test_verify_names_what_iptables_does_not_see_and_tries_the_rest(machine):
    """No raw frame is sent, which would leave; everything else is, and nothing leaves. Without the lock the same questions do."""
    machine.run("sh", "-c", "for v in -4 -6; do ip $v route add default dev eth0; done; ip addr add fd00::2/64 dev eth0 nodad")
    assert machine.failshut("arm").returncode == 0

    done = machine.failshut("verify", "--yes", "--window", "0.5", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    tests = report["tests"]
    assert "iptables holds nothing below IP" in tests[0]["not_tried"]["raw frame IPv4 by eth0"]
    assert tests[0]["tried"]["udp4 by eth0"]["refused"] > 0
    assert tests[0]["tried"]["icmp6 by eth0"]["refused"] > 0


def test_without_iptables_nothing_is_changed(machine):
    """It says what to install."""
    machine.uninstall("iptables-save")

    done = machine.failshut("arm")

    assert done.returncode == 1
    assert "iptables is not installed" in done.stderr


def test_the_log_is_a_switch_that_ends_by_itself(sandbox):
    """nftables: the element that turns the log on has an end of the kernel's, and --off takes it away; a re-arming does not."""
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    listed = ("nft", "list", "set", "inet", "failshut", "logging")

    on = sandbox.failshut("log", "--for", "10m")
    assert on.returncode == 0, on.stderr
    assert "timeout 10m" in sandbox.run(*listed).stdout
    assert sandbox.failshut("arm").returncode == 0
    assert "timeout 10m" in sandbox.run(*listed).stdout
    assert state(sandbox) == "armed"
    assert "Logged for" in sandbox.failshut("log").stdout

    assert sandbox.failshut("log", "--off").returncode == 0
    assert "timeout 10m" not in sandbox.run(*listed).stdout
    assert "Not logged." in sandbox.failshut("log").stdout

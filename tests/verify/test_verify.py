"""The guide's three tests live, in a machine with a tunnel that works: held, leaking, interrupted, and void."""

from __future__ import annotations

import json
import os
import re
import signal
import sys

import pytest

from connected import INNER, SINK_PORT
from sandbox import FAILSHUT, POLICY

pytestmark = pytest.mark.lab

QUICK = ("--yes", "--window", "1")


def verified(machine, *options):
    done = machine.failshut("verify", *QUICK, "--json", *options)
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else {}


def test_a_good_lock_holds_and_the_tunnel_is_back_as_it_was(machine):
    """Every test is ok, packets were tried and refused, and the tunnel carries with the same routes, rules and tables."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()

    done, report = verified(machine, "--upload", f"{INNER}:{SINK_PORT}")

    assert done.returncode == 0, done.stderr + done.stdout
    assert [each["name"] for each in report["tests"]] == ["control", "guide-1", "guide-3", "back", "guide-2", "back", "final"]
    assert {each["verdict"] for each in report["tests"]} == {"ok"}
    assert report["tests"][0]["allowed"]["transport"] > 0
    assert before == machine.outside()
    assert machine.carries()


def plant(machine, match: str = "") -> None:
    """Open a hole in every layer, as a careless tool would."""
    for chain in ("inet failshut output", "inet failshut postrouting", "netdev failshut admit"):
        machine.must("nft", f"insert rule {chain} {match} accept")


def test_a_planted_hole_is_a_leak_and_the_packet_is_named(machine):
    """With an accept rule in every layer verify says the drift, goes on, and shows what left; the tunnel is back."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    plant(machine)

    done = machine.failshut("verify", *QUICK)

    assert done.returncode == 12, done.stderr + done.stdout
    assert "drift" in done.stderr
    assert re.search(r"leak: .* eth0: 192\.168\.50\.2:\d+ → 198\.51\.100\.77:\d+ udp .*our probe: udp4", done.stderr), done.stderr
    assert re.search(r"leak: .* eth0: \[fd50::2\]:\d+ → .*our probe: ", done.stderr), done.stderr
    assert machine.carries()


def test_a_hole_that_only_another_program_uses_is_a_leak_too(machine):
    """Any packet on the wire that nothing explains counts, not only verify's own."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    plant(machine, "udp dport 4444")
    script = (
        "import socket, time\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "print('sending', flush=True)\n"
        "while True:\n"
        "    try: sock.sendto(b'a diary', ('198.51.100.9', 4444))\n"
        "    except OSError: pass\n"
        "    time.sleep(0.05)\n"
    )
    program = machine.start("python3", "-c", script)
    assert program.stdout.readline() == "sending\n"

    done = machine.failshut("verify", *QUICK)
    program.kill()
    program.communicate()

    assert done.returncode == 12, done.stderr + done.stdout
    assert "198.51.100.9:4444" in done.stderr
    assert "not sent by verify" in done.stderr
    assert "our probe" not in done.stderr


def test_an_upload_that_began_in_the_tunnel_is_a_leak_when_it_goes_on_beside_it(machine):
    """A hole for the upload's own server: with the tunnel up its packets go in, with the tunnel down they leave.

    When is TCP's affair: in whichever test its next packet comes.
    """
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    plant(machine, f"ip daddr {INNER}")

    done, report = verified(machine, "--window", "3", "--upload", f"{INNER}:{SINK_PORT}")

    assert done.returncode == 12, done.stdout
    leaking = next(each for each in report["tests"] if each["verdict"] == "leak")
    assert leaking["name"] != "control", leaking
    assert f"our probe: tcp4 upload to {INNER}:{SINK_PORT}" in str(leaking["leaks"])
    assert machine.carries()


def test_a_hook_that_arms_does_not_keep_the_tunnel_from_coming_back(machine):
    """Who arms in PostUp, as many do, gets the tunnel back."""
    machine.adopt_tunnel(more=f"PostUp = {' '.join(FAILSHUT)} arm\n")
    before = machine.outside()

    done, report = verified(machine)

    assert done.returncode == 0, done.stderr + done.stdout
    assert report["not_brought_back"] == []
    assert before == machine.outside()
    assert machine.carries()


def test_without_a_lock_nothing_is_touched(machine):
    """A disarmed lock, and one that another tool removed, exit 3 before anything is taken down."""
    machine.adopt_tunnel()
    before = machine.must("ip", "-o", "link", "show", "wg0")

    assert machine.failshut("verify", *QUICK).returncode == 3

    machine.must(*FAILSHUT, "arm")
    machine.must("nft", "flush", "ruleset")
    gone = machine.failshut("verify", *QUICK)
    assert gone.returncode == 3, gone.stderr
    assert "removed it" in gone.stderr
    assert before == machine.must("ip", "-o", "link", "show", "wg0")


def test_verifying_asks_and_does_nothing_without_a_terminal(machine):
    """A script must say --yes."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()

    done = machine.failshut("verify")

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert before == machine.outside()


def wait_until(condition, process):
    """Wait for a condition as long as a process lives."""
    while not condition():
        assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_in_the_middle_brings_the_tunnel_back(machine, number):
    """Ctrl-C in the terminal, also twice, and SIGTERM: the whole process group gets it, and the tunnel carries afterwards."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()
    process = machine.start("setsid", *FAILSHUT, "verify", "--yes", "--window", "60", "--json")
    wait_until(lambda: not machine.has("wg0"), process)

    os.killpg(process.pid, number)
    os.killpg(process.pid, number)
    report = json.loads(process.communicate(timeout=60)[0])

    assert (process.returncode, report["interrupted"], report["not_brought_back"]) == (130, True, [])
    assert {each["verdict"] for each in report["tests"]} == {"ok"}
    assert before == machine.outside()
    assert machine.carries()


def test_an_error_in_the_middle_brings_the_tunnel_back(machine):
    """Whatever goes wrong inside verify itself, the tunnel carries afterwards."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()
    script = (
        "import sys, failshut.verify.run as run\n"
        "from failshut.cli.main import main\n"
        "def broken(*_): raise RuntimeError('planted')\n"
        "run.questions = broken\n"
        "sys.argv = ['failshut', 'verify', '--yes', '--window', '0.5']\n"
        "main()\n"
    )

    done = machine.run(sys.executable, "-c", script)

    assert "guide-1" in done.stderr
    assert "planted" in done.stderr
    assert before == machine.outside()
    assert machine.carries()


def test_a_terminal_that_is_gone_does_not_keep_the_tunnel_from_coming_back(machine):
    """Not a word can be written, and every test is done all the same."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()

    done = machine.run("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *FAILSHUT, "verify", "--yes", "--window", "0.5")

    assert (done.returncode, "Held." in done.stdout) == (0, True)
    assert before == machine.outside()
    assert machine.carries()


def test_without_root_it_says_what_to_do(machine):
    """Who lacks the privilege gets exit 4 and the word sudo."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "env", "PATH=/usr/bin:/bin")

    done = machine.run(*bare, *FAILSHUT, "verify", "--yes")

    assert done.returncode == 4, done.stderr
    assert "sudo" in done.stderr
    assert machine.has("wg0")


def test_without_systemd_a_boot_can_not_be_known(machine):
    """--after-boot exits 4 with the reason."""
    done = machine.failshut("verify", "--after-boot")

    assert done.returncode == 4
    assert "systemd does not run" in done.stderr


def test_a_tunnel_that_does_not_carry_makes_it_void_and_is_left_alone(machine):
    """Without a handshake nothing would be proven: exit 1 with the reason, and the tunnel was not taken down."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    machine.server("ip", "link", "del", "served")
    machine.must("wg-quick", "down", "wg0")
    machine.must("wg-quick", "up", "wg0")
    before = machine.must("ip", "-o", "link", "show", "wg0")

    done, report = verified(machine)

    assert done.returncode == 1, done.stderr
    assert report["verdict"] == "void"
    assert "no handshake" in report["tests"][0]["reason"]
    assert [each["name"] for each in report["tests"]] == ["control", "final"]
    assert before == machine.must("ip", "-o", "link", "show", "wg0")


def test_a_tunnel_that_is_down_is_judged_as_it_is(machine):
    """Nothing is taken down or brought up; the packets that leave with the tunnel down are judged."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    machine.must("wg-quick", "down", "wg0")

    done, report = verified(machine)

    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in report["tests"]] == ["down", "guide-3", "final"]
    assert not machine.has("wg0")

    plant(machine, "udp dport 53")
    leaking, report = verified(machine)
    assert leaking.returncode == 12
    assert [each["verdict"] for each in report["tests"]] == ["ok", "leak", "ok"]
    assert "198.51.100.77:53" in str(report["tests"][1]["leaks"])


def test_a_policy_that_was_edited_since_arming_is_said(machine):
    """Packets are judged by the file, so that whoever reads a leak must know that the file is not what is armed."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    quiet = machine.failshut("verify", "--yes", "--window", "0.5")
    machine.write("/etc/failshut/failshut.toml", POLICY + "multicast = true\n")

    edited = machine.failshut("verify", "--yes", "--window", "0.5")

    assert "is not what is armed" not in quiet.stderr
    assert "is not what is armed" in edited.stderr
    assert (quiet.returncode, edited.returncode) == (0, 0)


def test_a_machine_without_a_link_proves_nothing(machine):
    """With the tunnel and the cable down nothing can leave, and that is no proof of the lock."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    machine.must("wg-quick", "down", "wg0")
    machine.must("ip", "link", "set", "eth0", "down")

    done, report = verified(machine)

    assert done.returncode == 1, done.stderr
    assert "no Ethernet device has a link" in report["tests"][0]["reason"]


def test_replies_of_a_service_are_explained(machine):
    """Somebody on the LAN uses a service of the policy throughout: its replies are no leak. Nor is a device that is down."""
    machine.must("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    machine.adopt_tunnel(
        '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[[allow.inbound]]\nname = "chat"\nprotocol = "tcp"\nport = 2222\n'
    )
    machine.must(*FAILSHUT, "arm")
    service = machine.start("python3", "-c", _TALKATIVE)
    assert service.stdout.readline() == "listening\n"
    caller = machine.at_server("python3", "-c", _LISTENER)
    assert caller.stdout.readline() == "heard\n"

    done, report = verified(machine)

    assert done.returncode == 0, done.stdout
    assert all(each["allowed"].get("inbound:chat") for each in report["tests"] if each["name"].startswith("guide"))
    for process in (caller, service):
        process.kill()
        process.communicate()


_TALKATIVE = """
import socket, time
listening = socket.create_server(("", 2222))
print("listening", flush=True)
talk, _ = listening.accept()
while True:
    talk.send(b"and another thing")
    time.sleep(0.1)
"""
_LISTENER = """
import socket
talk = socket.create_connection(("192.168.50.2", 2222), 10)
print("heard" if talk.recv(100) else "nothing", flush=True)
while talk.recv(100):
    pass
"""

# A systemctl as far as verify needs it: the unit is active, and stopping and starting it is wg-quick's work.
_SYSTEMCTL = """#!/bin/sh
echo "$*" >>/run/systemctl.log
case "$1" in
is-active) exit 0 ;;
stop) exec wg-quick down wg0 ;;
restart) wg-quick down wg0; exec wg-quick up wg0 ;;
esac
exit 1
"""


def test_a_tunnel_of_a_systemd_unit_is_stopped_and_started_by_systemd(machine):
    """What systemd brought up, systemd takes down and brings back, also after the crash."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()
    machine.write("/run/fake/systemctl", _SYSTEMCTL)
    machine.must("chmod", "+x", "/run/fake/systemctl")

    done = machine.failshut("verify", *QUICK, "--json", env={"PATH": "/run/fake:/usr/sbin:/usr/bin:/sbin:/bin"})

    assert done.returncode == 0, done.stdout
    unit = "wg-quick@wg0.service"
    assert machine.read("/run/systemctl.log").splitlines() == [
        f"is-active --quiet {unit}",
        *(f"stop {unit}", f"restart {unit}", f"restart {unit}"),
    ]
    assert before == machine.outside()
    assert machine.carries()


@pytest.mark.parametrize("more", ["SaveConfig = true\n", None])
def test_a_tunnel_that_could_not_be_brought_back_is_not_taken_down(machine, more):
    """A config that would be rewritten, and a tunnel that wg-quick did not make: void, with the reason, and nothing is done."""
    machine.adopt_tunnel(more=more or "")
    machine.must(*FAILSHUT, "arm")
    if more is None:
        machine.must("rm", "/etc/wireguard/wg0.conf")
        machine.write("/etc/failshut/failshut.toml", POLICY.replace("config =", 'endpoints = ["203.0.113.10:51820"] #'))
    before = machine.must("ip", "-o", "link", "show", "wg0")

    done, report = verified(machine)

    assert done.returncode == 1, done.stdout + done.stderr
    assert ("SaveConfig" if more else "brought it up") in report["tests"][0]["reason"]
    assert before == machine.must("ip", "-o", "link", "show", "wg0")

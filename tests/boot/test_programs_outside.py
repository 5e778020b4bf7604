"""Programs outside the tunnel on a machine with systemd: a scope in the slice, and after a boot the same."""

from __future__ import annotations

import json

import pytest

import portal_simulator
from amount import thorough
from boot.living import assert_armed
from boot.machine import Machine
from boot.router import POLICY, ROUTER4
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

EXEC = ("failshut", "exec", "--outside")
SAY = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', ('198.51.100.99', int(sys.argv[1])))"


def say(machine: Machine, port: int, *before: str) -> None:
    """Send a datagram to a port by which it is known again on the cable."""
    done = machine.run(*before, "python3", "-c", SAY, str(port))
    assert done.ok, done.complaint


def test_a_program_outside_is_a_scope_of_the_slice(quiet_machine):
    """In its group before its first instruction, as the user asked for, with its exit status; it is on the cable, inside is not."""
    machine = quiet_machine
    machine.write("/etc/failshut/failshut.toml", POLICY + "\n[outside]\n")
    armed = machine.run("failshut", "arm")
    assert armed.ok, armed.complaint

    where = machine.run(*EXEC, "--user", "nobody", "--", "sh", "-c", "grep ^0: /proc/self/cgroup; id -un; exit 42")
    say(machine, 4001, *EXEC, "--")
    say(machine, 4002)
    machine.reboot()
    assert_armed(machine)
    say(machine, 4003, *EXEC, "--")
    say(machine, 4004)
    left = str([str(leak) for _, leak in machine.router.wire.stop(machine.router.case).leaks])

    assert where.code == 42, where.err
    group, user = where.out.split()
    assert "/failshut.slice/failshut-outside.slice/run-" in group
    assert group.endswith(".scope")
    assert user == "nobody"
    assert [port for port in (4001, 4002, 4003, 4004) if f"198.51.100.99:{port}" in left] == [4001, 4003], left


def test_a_service_of_the_slice_is_outside_too(quiet_machine):
    """A unit that names the slice needs no `exec`: the guard, or a word to the loader, tells the kernel of its group."""
    machine = quiet_machine
    machine.write("/etc/failshut/failshut.toml", POLICY + "\n[outside]\n")
    assert machine.run("failshut", "arm").ok
    unit = ("systemd-run", "--quiet", "--wait", "--slice=failshut-outside.slice")
    stays = ("systemd-run", "--quiet", "--slice=failshut-outside.slice", "sleep", "infinity")
    assert machine.run(*stays).ok

    assert machine.run("/etc/failshut/load", "programs").ok
    say(machine, 4001, *unit)
    say(machine, 4002, "systemd-run", "--quiet", "--wait")
    left = str([str(leak) for _, leak in machine.router.wire.stop(machine.router.case).leaks])

    assert [port for port in (4001, 4002) if f"198.51.100.99:{port}" in left] == [4001], left


def test_what_is_open_for_a_time_ends_when_the_machine_goes_to_sleep(quiet_machine):
    """By systemd, which reaches sleep.target before it writes to /sys/power. The control: what was sent before is on the cable."""
    machine = quiet_machine
    machine.write("/etc/failshut/failshut.toml", POLICY)
    assert machine.run("failshut", "arm").ok
    for port in (4001, 4002):
        assert machine.run("failshut", "allow", "to", f"198.51.100.99:{port}/udp", "--for", "1h").ok
    say(machine, 4001)
    assert machine.run("systemd-run", "--wait", "--property=Requires=sleep.target", "--property=After=sleep.target", "true").ok
    assert json.loads(machine.run("failshut", "status", "--json").out)["open"] == []
    say(machine, 4002)
    left = str([str(leak) for _, leak in machine.router.wire.stop(machine.router.case).leaks])

    assert [port for port in (4001, 4002) if f"198.51.100.99:{port}" in left] == [4001], left


BROWSER = """#!/usr/bin/python3
import os, signal, sys, urllib.request
with open("/run/seen", "w") as log:
    print(os.getuid(), sys.argv[1], file=log)
    print(open("/proc/self/cgroup").read().split()[-1], file=log)
    print(urllib.request.urlopen(sys.argv[1], data=b"room=7").read().decode(), file=log)
signal.pause()
"""


@pytest.mark.scenario(84)
@thorough
def test_a_sign_in_on_a_machine_with_systemd(quiet_machine):
    """Probe and browser are scopes of the sign-in's slice; the tunnel shakes hands, and nothing of it runs on."""
    machine = quiet_machine
    machine.write("/etc/failshut/failshut.toml", POLICY.replace("[allow]\n", "[allow]\nportal = true\n"))
    machine.write("/usr/local/bin/signs-in", BROWSER)
    machine.run("chmod", "755", "/usr/local/bin/signs-in")
    assert machine.run("failshut", "arm").ok
    simulator = machine.room.start("python3", portal_simulator.__file__, ROUTER4, net=machine.router.namespace)
    table = ("nft", "list", "table", "inet", "portal")
    assert until(lambda: machine.room.run("ip", "netns", "exec", "router", *table).ok, within=20, step=0.1)

    options = ("--json", "--user", "root", "--resolver", ROUTER4, "--browser", "/usr/local/bin/signs-in")
    done = machine.run("failshut", "portal", *options, timeout=120)
    simulator.kill()
    simulator.wait()

    assert done.ok, done.out + done.err
    assert json.loads(done.out)["ending"] == "signed-in"
    who, group, answered = machine.run("cat", "/run/seen").out.splitlines()
    assert who == f"0 http://{ROUTER4}/login"
    assert "/failshut.slice/failshut-portal.slice/run-" in group
    assert answered == "You are connected."
    assert not machine.run("pgrep", "-f", "signs-in").ok
    assert '"elem"' not in machine.run("nft", "-j", "list", "set", "inet", "failshut", "portal-programs").out

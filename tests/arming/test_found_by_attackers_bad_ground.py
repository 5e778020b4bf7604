"""Arming on a machine that is short of everything: what can't be asked is not taken for nothing."""

from __future__ import annotations

import pytest

from grouped import needs_programs
from sandbox import FAILSHUT
from watched import Watched

pytestmark = pytest.mark.lab

POLICY = '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[allow]\ndhcp = false\n'
# As where no memory is left for one program more, at the moment when the devices are asked for.
FORGETFUL = """#!/bin/sh
case "$*" in *link*) echo 'Cannot allocate memory' >&2; exit 1 ;; esac
exec /usr/sbin/ip "$@"
"""
# nft comes to no answer when it is asked whether the lock would load: for want of memory, or killed for it.
SHORT = """#!/bin/sh
case "$*" in *-c*) {} ;; esac
exec /usr/sbin/nft "$@"
"""


def test_devices_that_are_not_known_don_t_cost_the_layer_under_ip(machine):
    """Arming anew took it off every device, until the read-back found it. The control: without its table every frame leaves."""
    machine.arm()
    machine.write("/etc/failshut/failshut.toml", POLICY)
    machine.write("/run/short/ip", FORGETFUL)
    machine.must("chmod", "755", "/run/short/ip")

    done = machine.failshut("arm", env={"PATH": "/run/short:/usr/sbin:/usr/bin:/sbin:/bin"})
    held = machine.frames_out("eth0")
    machine.must("nft", "delete", "table", "netdev", "failshut")
    free = machine.frames_out("eth0")

    assert (done.returncode, held, free) == (1, 0, 100), done.stderr
    assert "which network devices it has" in done.stderr


@pytest.mark.parametrize("ending", ["ulimit -v 12000", "kill -9 $$"], ids=["no-memory", "killed"])
def test_an_nft_that_comes_to_no_answer_does_not_cost_the_layer_under_ip(machine, ending):
    """It was taken for a kernel that knows no such layer. The control: one that does not is armed without it, and frames leave."""

    def armed_by(ending: str):
        machine.write("/run/short/nft", SHORT.format(ending))
        machine.must("chmod", "755", "/run/short/nft")
        return machine.failshut("arm", env={"PATH": "/run/short:/usr/sbin:/usr/bin:/sbin:/bin"})

    machine.adopt_tunnel('[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n')

    done = armed_by(ending)
    tables = machine.must("nft", "list", "tables")
    unknown = armed_by("grep -q netdev && { echo 'Operation not supported' >&2; exit 1; } || exit 0")

    assert (done.returncode, tables.count("failshut")) == (1, 0), done.stderr
    assert (unknown.returncode, machine.frames_out("eth0")) == (0, 100), unknown.stderr
    assert "packets below IP are not held: Operation not supported" in unknown.stderr


def test_where_no_program_can_be_started_the_lock_stays_as_it_is(machine):
    """Each number of open files ends arming at another step. The control: with enough of them the new lock is on."""
    machine.arm()
    before = machine.chain()
    machine.write("/etc/failshut/failshut.toml", POLICY)
    ends = set()

    for most in range(8, 64, 3):
        done = machine.run("prlimit", f"--nofile={most}", *FAILSHUT, "arm")
        ends.add((done.returncode, (done.stderr.splitlines() or [""])[-2:][0]))
        if done.returncode == 0:
            break
        assert machine.chain() == before
        assert machine.frames_out("eth0") == 0

    # Which program it is depends on how many were still running.
    assert any(code == 1 and said.endswith("can't be started: Too many open files") for code, said in ends), ends
    assert done.returncode == 0, done.stderr
    assert not [each for each in ends if "Traceback" in each[1] or "output can't be written" in each[1]]


@pytest.fixture
def machine():
    needs_programs()
    with Watched() as it:
        yield it

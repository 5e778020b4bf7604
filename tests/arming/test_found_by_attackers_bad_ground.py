"""Arming on a machine that is short of everything: what can't be asked is not taken for nothing."""

from __future__ import annotations

import pytest

from grouped import needs_programs
from watched import Watched

pytestmark = pytest.mark.lab

POLICY = '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[allow]\ndhcp = false\n'
# As where no memory is left for one program more, at the moment when the devices are asked for.
FORGETFUL = """#!/bin/sh
case "$*" in *link*) echo 'Cannot allocate memory' >&2; exit 1 ;; esac
exec /usr/sbin/ip "$@"
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


@pytest.fixture
def machine():
    needs_programs()
    with Watched() as it:
        yield it

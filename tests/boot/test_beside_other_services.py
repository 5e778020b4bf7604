"""Services that load or flush the firewall as a machine starts and stops: beside each of them nothing leaks."""

from __future__ import annotations

import pytest

from boot.living import arm, assert_that_nothing_leaked_once_armed, use
from boot.machine import Address, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

static = pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
_RULES = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n"


def live_with(machine: Machine, service: str) -> None:
    """Boot with the service, restart and stop it, power off with it running."""
    phase = machine.router.wire.phase
    with phase(f"reboot with {service}"):
        machine.systemctl_offline("enable", service)
        machine.reboot()
        assert machine.run("systemctl", "is-active", service).ok, machine.journal()
        use(machine)
    for verb in ("restart", "stop", "start"):
        with phase(f"{verb} {service}"):
            done = machine.run("systemctl", verb, service)
            assert done.ok, done.complaint
            machine.hear_noise()
    with phase("power-off"):
        machine.power_off()


@static
def test_beside_nftables_service_which_flushes_everything(machine):
    arm(machine)
    assert "flush ruleset" in machine.read("/etc/nftables.conf")
    live_with(machine, "nftables.service")

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_beside_netfilter_persistent_told_to_flush(machine):
    machine.write("/etc/default/netfilter-persistent", "FLUSH_ON_STOP=1\n")
    machine.write("/etc/iptables/rules.v4", _RULES)
    machine.write("/etc/iptables/rules.v6", _RULES)
    arm(machine)
    live_with(machine, "netfilter-persistent.service")

    assert_that_nothing_leaked_once_armed(machine)

"""Routing on a machine that boots: there before the network, kept by networkd, restored by the guard, gone with disarm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from boot.living import UNARMED, arm, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address, Machine
from boot.router import POLICY
from failshut.model.units import InterfaceName, Port

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

# An address of the server's, behind the tunnel and beyond the link.
FAR = "198.51.100.9"


def rules(machine: Machine) -> str:
    """Return them without their preferences: those of wg-quick's are moved behind ours within seconds."""
    return machine.run("sh", "-c", "{ ip rule; ip -6 rule; } | cut -f 2-").out


def ours(machine: Machine) -> str:
    return machine.run("sh", "-c", "ip rule | grep 'proto 245'; ip -6 rule | grep 'proto 245'").out


@pytest.mark.parametrize("machine", [Address.DHCP], indirect=True, ids=["dhcp"])
def test_networkd_leaves_the_rules_of_the_tunnel_and_ours_alone(machine):
    """A restart of systemd-networkd takes wg-quick's rules away before arming (Debian 13's does), and none afterwards."""
    phase = machine.router.wire.phase
    with phase("before the lock"):
        machine.boot()
        use(machine)
        before = rules(machine)
        machine.run("systemctl", "restart", "systemd-networkd")
        assert machine.eventually("sh", "-c", "networkctl status | grep -q State:")
        taken = before != rules(machine)
        machine.run("systemctl", "restart", "wg-quick@wg0")
        use(machine)
        assert machine.run("failshut", "arm").ok
    assert taken or "trixie" not in machine.read("/etc/os-release"), "the control: Debian 13's takes them"
    for _ in range(2):
        with phase("networkd restarted"):
            armed = rules(machine)
            assert " proto 245" in armed
            assert machine.run("systemctl", "restart", "systemd-networkd").ok
            assert machine.eventually("sh", "-c", "ip route show default | grep -q .")
            use(machine)
            assert rules(machine) == armed
            assert status(machine)["state"] == "armed", status(machine)["reason"]
        with phase("reboot"):
            machine.reboot()
            use(machine)
            assert status(machine)["state"] == "armed", status(machine)["reason"]
            assert machine.run("ip", "route", "get", FAR).out.split()[2] == "wg0"
    with phase("wg-quick"):
        machine.run("systemctl", "restart", "wg-quick@wg0")
        use(machine)
    with phase("rules removed by another program"):
        machine.run("sh", "-c", "while ip rule del protocol 245; do :; done")
        assert machine.eventually("sh", "-c", "ip rule | grep -q 'proto 245'", within=60), machine.journal()
    machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
def test_a_boot_brings_the_routing_before_the_network_and_disarm_takes_it(machine):
    """After a reboot the rules stand before wg-quick's; after disarm none of ours is left, nor a device in our group."""
    arm(machine)
    with machine.router.wire.phase("reboot"):
        machine.reboot()
        use(machine)
        listed = [line for line in machine.run("ip", "rule").out.splitlines() if line.startswith("0:")]
        assert " proto 245" in listed[1]
        assert "group 26209" in machine.run("ip", "link", "show", "type", "veth").out
    with machine.router.wire.phase("before the lock"):
        assert machine.run("failshut", "disarm", "--yes").ok
        assert ours(machine) == ""
        assert "26209" not in machine.run("ip", "link").out
        assert not machine.read("/etc/systemd/networkd.conf.d/failshut.conf")
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
def test_two_tunnels_that_take_everything_come_up_in_one_boot(machine):
    """Their rules are alike in part. The control: without the turns that their units take, one of them is refused."""
    second = machine.router.config.replace("10.99.0.2/32, fd99::2/128", "10.77.0.2/32, fd77::2/128").replace(":51820", ":51999")
    machine.write("/etc/wireguard/wg1.conf", second)
    machine.write("/etc/failshut/failshut.toml", POLICY + '[tunnel.wg1]\nconfig = "/etc/wireguard/wg1.conf"\n')
    machine.systemctl_offline("enable", "wg-quick@wg1")
    drop_in = "/etc/systemd/system/wg-quick@.service.d/failshut.conf"
    with machine.router.wire.phase(UNARMED):
        machine.boot()
        done = machine.run("failshut", "arm")
        assert done.ok, done.complaint
        whole = machine.read(drop_in)
    units = ("wg-quick@wg0", "wg-quick@wg1")
    with machine.router.wire.phase("without turns"):
        machine.write(drop_in, whole.split("# Its routing rules")[0])
        machine.reboot()
        assert machine.eventually("sh", "-c", f"systemctl is-failed {' '.join(units)}"), "the control"
    with machine.router.wire.phase("reboot"):
        machine.write(drop_in, whole)
        machine.reboot()
        assert machine.eventually("systemctl", "is-active", *units), machine.journal()
        assert machine.run("sh", "-c", "ip rule | grep -c 'suppress_prefixlength 0'").out.strip() == "2"
        machine.power_off()

    policy = machine.router.policy
    (tunnel,) = policy.tunnels
    (server,) = tunnel.endpoints
    beside = replace(tunnel, interface=InterfaceName("wg1"), endpoints=(replace(server, port=Port(51999)),))
    report = machine.router.wire.stop(replace(machine.router.case, policy=replace(policy, tunnels=(tunnel, beside))))
    assert set(report.by_phase) == {UNARMED}, report

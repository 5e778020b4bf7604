"""Routing on a machine that boots: there before the network, kept by networkd, restored by the guard, gone with disarm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amount import amount
from boot.living import UNARMED, arm, assert_armed, assert_that_nothing_leaked_once_armed, use
from boot.machine import Address, Machine
from boot.router import POLICY
from failshut.model.units import InterfaceName, Port

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

# An address of the server's, behind the tunnel and beyond the link.
FAR = "198.51.100.9"

UNITS = ("wg-quick@wg0", "wg-quick@wg1")
DROP_IN = "/etc/systemd/system/wg-quick@.service.d/failshut.conf"
# The second's PreUp: it starts the first, which then waits for its turn, or doesn't and is being brought up itself.
MEET = """
systemctl --no-block start wg-quick@wg0
until [ -s /run/order ] || pgrep --parent "$(pgrep --full --oldest 'route turn wg-quick@wg0')" --exact sleep; do :; done
"""


def rules(machine: Machine) -> str:
    """Return them without their preferences: those of wg-quick's are moved behind ours within seconds."""
    return machine.run("sh", "-c", "{ ip rule; ip -6 rule; } | cut -f 2-").out


def both_are_up(machine: Machine) -> None:
    """Wait until both tunnels are up; each must have its own rules."""
    assert machine.eventually("sh", "-ec", "; ".join(f"systemctl --quiet is-active {each}" for each in UNITS)), machine.journal()
    assert machine.run("sh", "-c", "ip rule | grep -c 'suppress_prefixlength 0'").out.strip() == "2"


def first_the_second(machine: Machine, drop_in: str) -> list[str]:
    """Bring the second tunnel up with the first amid it, their units as `drop_in` has them. Return what they did, as it came."""
    machine.write(DROP_IN, drop_in)
    assert machine.run("systemctl", "stop", *UNITS).ok
    assert machine.run("rm", "-f", "/run/order").ok
    assert machine.run("systemctl", "daemon-reload").ok
    # Refused or not.
    machine.run("systemctl", "start", UNITS[1])
    assert machine.eventually("grep", "-q", "wg0", "/run/order"), machine.journal()
    return machine.run("cat", "/run/order").out.splitlines()


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
    for _ in range(amount(usually=1, thoroughly=2)):
        with phase("networkd restarted"):
            armed = rules(machine)
            assert " proto 245" in armed
            assert machine.run("systemctl", "restart", "systemd-networkd").ok
            assert machine.eventually("sh", "-c", "ip route show default | grep -q .")
            use(machine)
            assert rules(machine) == armed
            assert_armed(machine)
        with phase("reboot"):
            machine.reboot()
            use(machine)
            assert_armed(machine)
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
    """Their rules are alike in part, so they take turns. The control: without turns the one begins amid the other."""
    second = machine.router.config.replace("10.99.0.2/32, fd99::2/128", "10.77.0.2/32, fd77::2/128").replace(":51820", ":51999")
    machine.write("/etc/wireguard/wg1.conf", second)
    machine.write("/etc/failshut/failshut.toml", POLICY + '[tunnel.wg1]\nconfig = "/etc/wireguard/wg1.conf"\n')
    machine.systemctl_offline("enable", "wg-quick@wg1")
    with machine.router.wire.phase(UNARMED):
        machine.boot()
        done = machine.run("failshut", "arm")
        assert done.ok, done.complaint
    with machine.router.wire.phase("reboot"):
        machine.reboot()
        both_are_up(machine)
    whole = machine.read(DROP_IN)
    machine.write("/usr/local/bin/meet", MEET)
    for config, words in (("wg1", "PreUp = sh /usr/local/bin/meet\nPostUp = echo wg1 is up"), ("wg0", "PreUp = echo wg0 begins")):
        path = f"/etc/wireguard/{config}.conf"
        machine.write(path, machine.read(path).replace("[Interface]\n", f"[Interface]\n{words} >>/run/order\n"))
    with machine.router.wire.phase("without turns"):
        assert first_the_second(machine, whole.split("# Its routing rules")[0])[0] == "wg0 begins", "the control"
    with machine.router.wire.phase("the second by name is the first"):
        assert first_the_second(machine, whole) == ["wg1 is up", "wg0 begins"]
        both_are_up(machine)
        machine.power_off()

    policy = machine.router.policy
    (tunnel,) = policy.tunnels
    (server,) = tunnel.endpoints
    beside = replace(tunnel, interface=InterfaceName("wg1"), endpoints=(replace(server, port=Port(51999)),))
    report = machine.router.wire.stop(replace(machine.router.case, policy=replace(policy, tunnels=(tunnel, beside))))
    assert set(report.by_phase) == {UNARMED}, report

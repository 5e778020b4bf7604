"""OpenVPN by its unit, NetworkManager's and systemd-networkd's WireGuard, on a machine that really boots.

This kernel may have no WireGuard: then the managers' tunnels are adopted, marked and put back, and carry nothing. Their packets are
counted in tests/vm.
"""

from __future__ import annotations

import json

import pytest

from boot import roots
from boot.living import arm, assert_that_nothing_leaked_once_armed, use
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router
from boot.vpn_router import CONFIG, VPN_POLICY, VpnRouter

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

UNIT = "openvpn-client@tun0"
KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
NETDEV = f"""\
# the office's
[NetDev]
Name=wg1
Kind=wireguard

[WireGuard]
PrivateKey={KEY}
RouteTable=1000

[WireGuardPeer]
PublicKey={KEY}
AllowedIPs=0.0.0.0/0,::/0
Endpoint=203.0.113.10:51820
"""
# A device of networkd's that any kernel can make, to see what a drop-in does and what brings it back.
TUN = "[NetDev]\nName=tun7\nKind=tun\n"
_TAKE_APART = """
from failshut.verify.tunnel import Standing, Way, bring_back, is_there, take_down
tunnel = Standing("tun7", Way.NETWORKD, kernel=False, handle="tun7", wireguard=False)
down = take_down(tunnel)
print(down.ok, is_there("tun7"), bring_back(tunnel, crashed=False), is_there("tun7"))
"""

_STAND_STILL = """
import os, signal, subprocess
from failshut.host.tunnels.managers import network_manager_stopped
with network_manager_stopped():
    print(subprocess.run({state!r}, shell=True, capture_output=True, text=True).stdout.strip(), flush=True)
    {end}
"""


@pytest.fixture
def vpn_machine(tree_of):
    """A machine whose tunnel is OpenVPN's, by Debian's unit; off."""
    tree = tree_of(roots.WORKSHOP)
    with Room() as room, VpnRouter(room) as router, Machine(room, router, tree, Address.DHCP) as machine:
        machine.write("/etc/failshut/failshut.toml", VPN_POLICY)
        machine.write(CONFIG, router.vpn_config)
        machine.systemctl_offline("disable", "wg-quick@wg0")
        machine.systemctl_offline("enable", UNIT)
        yield machine


def test_openvpn_by_its_unit_comes_up_behind_the_lock_and_leaks_nothing(vpn_machine):
    """Armed, rebooted, restarted, killed and verified: the noise is on the wire before the lock, and never after it."""
    machine, phase = vpn_machine, vpn_machine.router.wire.phase
    arm(machine)
    with phase("restarted, with its mark"):
        assert machine.run("systemctl", "restart", UNIT).ok
        use(machine)
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    with phase("killed"):
        assert machine.run("systemctl", "kill", "--signal=KILL", UNIT).ok
        machine.hear_noise()
        assert machine.run("systemctl", "restart", UNIT).ok
        use(machine)
    with phase("verified"):
        done = machine.run("failshut", "verify", "--yes", "--window", "1", timeout=180)
        assert done.code == 0, done.out + done.err
        assert f"systemd's unit {UNIT}.service" in done.err
    needs = machine.run("systemctl", "show", UNIT, "--property=Requires,After").out
    with phase("power-off"):
        machine.power_off()

    assert needs.count("failshut.service") == 2
    assert_that_nothing_leaked_once_armed(machine)


@pytest.fixture
def managed(tree_of):
    """A booted machine with NetworkManager and systemd-networkd beside each other."""
    tree = tree_of(roots.WORKSHOP)
    with Room() as room, Router(room) as router, Machine(room, router, tree, Address.NETWORK_MANAGER) as machine:
        machine.systemctl_offline("disable", "noise", "wg-quick@wg0")
        machine.boot()
        yield machine


def _must(machine, *argv):
    done = machine.run(*argv)
    assert done.ok, f"{argv}: {done.complaint}"
    return done.out


def test_network_manager_s_imported_tunnel_is_adopted_and_marked(managed):
    """NetworkManager itself says the mark while the lock is armed, and its file is byte for byte the old one afterwards."""
    keyfile = "/etc/NetworkManager/system-connections/wg0.nmconnection"
    _must(managed, "nmcli", "connection", "import", "type", "wireguard", "file", "/etc/wireguard/wg0.conf")
    _must(managed, "rm", "/etc/wireguard/wg0.conf")
    before = managed.read(keyfile)

    adopted = json.loads(_must(managed, "failshut", "init", "wg0", "--force", "--json"))
    assert adopted["tunnel"] == "wg0"
    assert keyfile in managed.read("/etc/failshut/failshut.toml")
    assert "203.0.113.10:51820" in _must(managed, "failshut", "check")
    _must(managed, "failshut", "arm")
    mark = _must(managed, "nmcli", "--get-values", "wireguard.fwmark", "connection", "show", "wg0").strip()
    _must(managed, "failshut", "disarm", "--yes")

    assert mark in ("0xca6c", "51820")
    assert _must(managed, "nmcli", "--get-values", "wireguard.fwmark", "connection", "show", "wg0").strip() in ("0x0", "0")
    assert managed.read(keyfile) == before


def test_network_manager_stands_still_for_a_while_and_goes_on_however_that_ends(managed):
    """For the tunnel that dies in `verify`: its interface is not made anew. Killed amid it, NetworkManager goes on too."""
    python = ("env", "PYTHONPATH=/opt/failshut/src:/opt/failshut/lib", "python3", "-c")
    state = "ps -o stat= -p $(systemctl show -p MainPID --value NetworkManager)"

    for end, code in (("pass", 0), ("os.kill(os.getpid(), signal.SIGKILL)", 137)):
        done = managed.run("sh", "-c", '"$@"; exit $?', "sh", *python, _STAND_STILL.format(state=state, end=end))

        assert (done.out.strip()[:1], done.code) == ("T", code), done.complaint
        assert managed.eventually("sh", "-c", f"{state} | grep -q S"), "it did not go on"
    _must(managed, "nmcli", "--get-values", "STATE", "general")


def test_networkd_s_tunnel_gets_a_drop_in_and_networkd_reads_it(managed):
    """The .netdev stays as it is; a drop-in with the mark comes and goes. What networkd makes it makes again."""
    _must(managed, "systemctl", "start", "systemd-networkd")
    managed.write("/etc/systemd/network/40-wg1.netdev", NETDEV)
    managed.write("/etc/systemd/network/40-wg1.network", "[Match]\nName=wg1\n[Network]\nAddress=10.99.0.2/32\n")
    managed.write("/etc/systemd/network/50-tun7.netdev", TUN)
    managed.write("/etc/systemd/network/50-tun7.netdev.d/failshut.conf", "[Tun]\nMultiQueue=yes\n")
    managed.write("/etc/systemd/network/50-tun7.network", "[Match]\nName=tun7\n[Network]\nConfigureWithoutCarrier=yes\n")
    _must(managed, "networkctl", "reload")

    assert json.loads(_must(managed, "failshut", "init", "wg1", "--force", "--json"))["tunnel"] == "wg1"
    _must(managed, "failshut", "arm")
    during = managed.read("/etc/systemd/network/40-wg1.netdev.d/failshut.conf")
    lock = _must(managed, "nft", "list", "table", "inet", "failshut")
    _must(managed, "failshut", "disarm", "--yes")

    assert "[WireGuard]\nFirewallMark=0x0000ca6c\n" in during
    assert "meta mark 0x0000ca6c ip daddr 203.0.113.10 udp dport 51820" in lock
    assert 'oifname "wg1" accept' in lock
    assert managed.read("/etc/systemd/network/40-wg1.netdev") == NETDEV
    assert not managed.run("ls", "/etc/systemd/network/40-wg1.netdev.d").ok
    assert managed.eventually("ip", "link", "show", "tun7", within=20)
    assert "multi_queue" in _must(managed, "ip", "-details", "link", "show", "tun7")
    python = ("env", "PYTHONPATH=/opt/failshut/src:/opt/failshut/lib", "python3", "-c", _TAKE_APART)
    assert _must(managed, *python).split() == ["True", "False", "True"]

"""A machine whose lock is iptables': from boot to power-off nothing of IP leaks, and what is below IP is named and seen to leave.

The control is in test_controls: with the guide's own rules, in the same life, packets of IP leave.
"""

from __future__ import annotations

import json

import pytest

from amount import thorough
from boot import roots
from boot.living import UNARMED, arm, judged, status, use
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import POLICY, Router
from boot.test_controls import IP
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

_BACKEND = '\n[backend]\nuse = "iptables"\n'
_USERS = (
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 198.51.100.99/32 -j DROP\nCOMMIT\n"
)
# Everything that arming may touch, in a form that compares: of iptables no counter, and no chain that the kernel made by itself.
_FINGERPRINT = """
for program in iptables ip6tables; do $program-save | grep '^[-:]' | grep -v ' ACCEPT \\[' | sed 's/ \\[.*//'; done
cd / && find etc/{failshut,wireguard,systemd,sysctl.d,iptables} run/failshut* -not -name 'failshut*.lock' 2>/dev/null | sort
cat etc/iptables/rules.v4 etc/iptables/rules.v6 etc/wireguard/wg0.conf
ip rule; ip -6 rule; wg show wg0 fwmark; cat proc/sys/net/ipv4/conf/all/src_valid_mark
systemctl list-unit-files 'failshut*' --no-legend; systemctl list-units --all 'failshut*' --no-legend --plain
systemctl show --value systemd-networkd wg-quick@wg0 -p Requires | tr ' ' '\\n' | sort
"""


@pytest.fixture
def house(tree_of):
    """A Debian 12 machine that is off, with netfilter-persistent on, a rule of the user's, and a policy that names iptables."""
    with Room() as room, Router(room) as router, Machine(room, router, tree_of(roots.BOOKWORM), Address.DHCP) as it:
        it.write("/etc/failshut/failshut.toml", POLICY + _BACKEND)
        it.write("/etc/iptables/rules.v4", _USERS)
        it.systemctl_offline("enable", "netfilter-persistent")
        yield it


@pytest.mark.parametrize("engine", ["nft", pytest.param("legacy", marks=thorough)])
def test_nothing_of_ip_leaks_in_a_day_of_a_machine_armed_by_iptables(house, engine):
    """Boot, crash of the tunnel, reload of netfilter-persistent, reboot, power cut: 0 of IP; frames of packet sockets are seen."""
    phase = house.router.wire.phase
    for program in ("iptables", "ip6tables"):
        house.room.do("chroot", house.disk, "update-alternatives", "--set", program, f"/usr/sbin/{program}-{engine}")
    arm(house)
    with phase("the tunnel up"):
        use(house)
    with phase("wireguard-go killed"):
        assert house.run("pkill", "-KILL", "-x", "wireguard-go").ok
        house.hear_noise()
    with phase("wg-quick restarted"):
        house.run("systemctl", "restart", "wg-quick@wg0")
        use(house)
    with phase("netfilter-persistent restarted, and stopped"):
        assert house.run("systemctl", "restart", "netfilter-persistent").ok, house.journal()
        house.hear_noise()
        assert house.run("netfilter-persistent", "reload").ok, house.journal()
        house.hear_noise()
        house.run("systemctl", "stop", "wg-quick@wg0", "netfilter-persistent")
        house.hear_noise()
    with phase("reboot"):
        assert house.reboot() == "running", house.journal()
        assert "-A OUTPUT -d 198.51.100.99/32 -j DROP" in house.run("iptables-save").out
        use(house)
    with phase("the power cut, and the boot after it"):
        house.power_cut()
        assert house.boot() == "running", house.journal()
        use(house)
    assert "not held   the layer under IP" in house.run("failshut", "status").out
    with phase("power-off"):
        house.power_off()

    report = judged(house)
    armed = {name: kinds for name, kinds in report.by_phase.items() if name != UNARMED}
    assert set().union(*armed.values()) == {"packet", "bypass"}, report
    assert set(report.by_phase[UNARMED]) >= IP, "the judge is blind"


def fingerprint(machine: Machine) -> list[str]:
    return machine.run("bash", "-c", _FINGERPRINT).out.splitlines()


@thorough
def test_what_nobody_confirms_is_undone_and_what_is_disarmed_leaves_nothing(house):
    """Undone by the timer, then confirmed, kept over a boot, verified by packets, and disarmed: as it was before."""
    house.systemctl_offline("disable", "noise")
    house.boot()
    before = fingerprint(house)

    armed = house.run("failshut", "arm", "--confirm-within", "3")
    assert armed.ok, armed.err
    assert fingerprint(house) != before
    assert until(lambda: status(house)["reverts_in"] is None, within=30, step=0.1)
    assert until(lambda: fingerprint(house) == before, within=10, step=0.2), difference(before, fingerprint(house))

    assert house.run("failshut", "arm", "--confirm-within", "60").ok
    confirmed = house.run("failshut", "confirm")
    assert confirmed.ok, confirmed.err
    assert house.reboot() == "running", house.journal()
    now = status(house)
    assert (now["state"], now["boot"]["loaded_by"], now["guard"]) == ("armed", "systemd", False)
    looked = house.run("failshut", "verify", "--after-boot")
    assert looked.ok, looked.complaint
    verified = house.run("failshut", "verify", "--yes", "--window", "1", "--json", timeout=200)
    assert verified.ok, verified.complaint
    tests = json.loads(verified.out)["tests"]
    assert [each["name"] for each in tests][:2] == ["control", "guide-1"]
    assert {each["verdict"] for each in tests} == {"ok"}

    disarmed = house.run("failshut", "disarm", "--yes")
    assert disarmed.ok, disarmed.err
    assert fingerprint(house) == before, difference(before, fingerprint(house))


def difference(before: list[str], after: list[str]) -> str:
    return "\n".join([f"- {each}" for each in before if each not in after] + [f"+ {each}" for each in after if each not in before])

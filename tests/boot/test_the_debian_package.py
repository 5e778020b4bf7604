"""The package's whole life on a clean Debian: installed, armed, upgraded under a flood, removed, purged."""

from __future__ import annotations

import pytest

from boot.living import UNARMED, judged, status, use
from boot.machine import Address
from boot.packages import bring, dpkg, newer, package, snapshot
from boot.router import POLICY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
REMOVED = "the package removed"
# A key that no version of the policy has.
_OTHER_SCHEMA = POLICY.replace("[allow]\n", "[allow]\nkey_of_another_version = true\n")


@pytest.mark.parametrize("machine", [Address.DHCP], indirect=True, ids=["dhcp"])
def test_a_package_leaks_nothing_while_armed_and_leaves_nothing_behind(machine, tmp_path):
    """What the removed lock lets out, with the tunnel down, is the control of everything before it."""
    phase = machine.router.wire.phase
    built = package()
    first, second = bring(machine, built), bring(machine, newer(built, tmp_path))
    machine.remove("/usr/local/bin/failshut")
    with phase(UNARMED):
        machine.boot()
        before = snapshot(machine)
        installed = dpkg(machine, "--install", first)
        assert installed.ok, installed.complaint
        assert "installed and not armed" in installed.out
        assert status(machine)["state"] == "disarmed"
        without_nft(machine)
        use(machine)
        armed = machine.run("failshut", "arm")
        assert armed.ok, armed.complaint
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    with phase("upgraded while the tunnel is down"):
        assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
        before_it = lock(machine)
        upgraded = dpkg(machine, "--install", second)
        assert upgraded.ok, upgraded.complaint
        assert "armed holds" in upgraded.out
        assert "+newer" in machine.run("failshut", "--version").out
        assert machine.run("systemctl", "is-active", "--quiet", "failshut-monitor").ok
        assert lock(machine) == before_it
    with phase("upgraded with a policy of another schema"):
        machine.write("/etc/failshut/failshut.toml", _OTHER_SCHEMA)
        again = dpkg(machine, "--install", second)
        assert again.ok, again.complaint
        assert "key_of_another_version" in again.out + again.err
        assert "The lock is unchanged" in again.out
        machine.write("/etc/failshut/failshut.toml", POLICY)
        assert lock(machine) == before_it
    with phase("removing refused, where /etc can't be written"):
        assert machine.run("sh", "-c", "mount --bind /etc /etc && mount -o remount,bind,ro /etc").ok
        refused = dpkg(machine, "--remove", "failshut")
        assert not refused.ok
        assert "the lock is still on, so the package stays" in refused.err
        assert machine.run("umount", "/etc").ok
        assert lock(machine) == before_it
        machine.hear_noise()
    with phase(REMOVED):
        removed = dpkg(machine, "--remove", "failshut")
        assert removed.ok, removed.complaint
        machine.hear_noise()
    assert machine.run("test", "-e", "/etc/failshut/failshut.toml").ok
    purged = dpkg(machine, "--purge", "failshut")
    assert purged.ok, purged.complaint

    report = judged(machine)
    assert set(report.by_phase) <= {UNARMED, REMOVED, "between phases"}, report
    assert {"udp", "icmp", "raw", "packet"} <= set(report.by_phase[REMOVED]), report
    # The policy was there before the package; what purges it takes it along.
    policy = [each for each in before if "/etc/failshut" in each]
    assert policy
    assert [each for each in before if each not in policy] == snapshot(machine)


def without_nft(machine) -> None:
    """Arming says what is missing, and changes nothing."""
    assert machine.run("mv", "/usr/sbin/nft", "/usr/sbin/nft-away").ok
    refused = machine.run("failshut", "arm")
    assert machine.run("mv", "/usr/sbin/nft-away", "/usr/sbin/nft").ok
    assert not refused.ok
    assert "nft is not installed" in refused.err
    assert status(machine)["state"] == "disarmed"


def lock(machine) -> str:
    """Return the rules in the kernel."""
    return machine.run("sh", "-c", "nft -s list table inet failshut && nft -s list table netdev failshut").out

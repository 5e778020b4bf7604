"""The package's whole life on a clean Debian: installed, armed, upgraded under a flood, removed, purged."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from amount import thorough
from boot.living import UNARMED, judged, status, use
from boot.machine import Address
from boot.packages import bring, dpkg, newer, package, snapshot, wheel_house
from boot.roots import BOOKWORM, NOBLE, REPOSITORY, TRIXIE, WORKSHOP
from boot.router import POLICY
from boot.wire import BETWEEN

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
by_dhcp = pytest.mark.parametrize("machine", [Address.DHCP], indirect=True, ids=["dhcp"])
REMOVED = "removed"
# A key that no version of the policy has.
_OTHER_SCHEMA = POLICY.replace("[allow]\n", "[allow]\nkey_of_another_version = true\n")


@by_dhcp
@pytest.mark.parametrize(
    "tree",
    [
        BOOKWORM,
        pytest.param(TRIXIE, marks=thorough),
        pytest.param(NOBLE, marks=thorough),
    ],
    indirect=True,
    ids=lambda each: each.name,
)
def test_a_package_leaks_nothing_while_armed_and_leaves_nothing_behind(machine, tmp_path):
    """What the removed lock lets out, with the tunnel down, is the control of everything before it."""
    phase = machine.router.wire.phase
    built = package()
    first, second = bring(machine, built), bring(machine, newer(built, tmp_path))
    autopkgtest = bring(machine, REPOSITORY / "packaging/debian/tests/installed")
    machine.remove("/usr/local/bin/failshut")
    with phase(UNARMED):
        machine.boot()
        before = snapshot(machine)
        installed = must(dpkg(machine, "--install", first))
        assert "installed and not armed" in installed.out
        assert status(machine)["state"] == "disarmed"
        must(machine.run("sh", autopkgtest))
        arming_without_nft_is_refused(machine)
        use(machine)
        must(machine.run("failshut", "arm"))
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    must(machine.run("systemctl", "stop", "wg-quick@wg0"))
    armed = lock(machine)
    with phase("upgraded"):
        upgraded = must(dpkg(machine, "--install", second))
        assert "armed holds" in upgraded.out
        assert "+newer" in machine.run("failshut", "--version").out
        must(machine.run("systemctl", "is-active", "failshut-monitor"))
        machine.hear_noise()
        assert lock(machine) == armed
    with phase("upgraded with a policy of another schema"):
        upgrading_with_another_schema_says_so(machine, second)
        assert lock(machine) == armed
    with phase("not armed, because nobody trusted has signed"):
        arming_without_a_good_signature_is_refused(machine)
        machine.hear_noise()
        assert lock(machine) == armed
    with phase("not armed and not removed, because /etc can't be written"):
        nothing_is_changed_in_a_read_only_etc(machine)
        machine.hear_noise()
        assert lock(machine) == armed
    with phase(REMOVED):
        must(dpkg(machine, "--remove", "failshut"))
        machine.hear_noise()
    must(machine.run("test", "-e", "/etc/failshut/failshut.toml"))
    must(dpkg(machine, "--purge", "failshut"))

    assert_that_only_the_unlocked_leaked(machine)
    # The policy was there before the package; what purges it takes it along.
    assert [each for each in before if "/etc/failshut" not in each] == snapshot(machine)


# As the docs say; the pipx of Debian 12 knows no --global.
_GLOBALLY = {
    WORKSHOP: "PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx {verb} failshut",
    TRIXIE: "pipx {verb} --global failshut",
}


@by_dhcp
@thorough
@pytest.mark.parametrize("tree", _GLOBALLY, indirect=True, ids=lambda each: each.suite)
def test_what_pipx_installed_arms_and_leaves_nothing_behind(machine, tmp_path, request):
    """By pipx itself; pip takes its wheels from a directory, for the machine has no way to PyPI."""
    pipx = _GLOBALLY[request.node.callspec.params["tree"]]
    offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels; "
    phase = machine.router.wire.phase
    machine.room.do("cp", "-r", str(wheel_house(tmp_path, machine)), f"{machine.disk}/opt/wheels")
    machine.remove("/usr/local/bin/failshut")
    with phase(UNARMED):
        machine.boot()
        before = snapshot(machine)
        must(machine.run("sh", "-ec", offline + pipx.format(verb="install"), timeout=300))
        arming_without_nft_is_refused(machine)
        use(machine)
        must(machine.run("failshut", "arm"))
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        must(machine.run("systemctl", "is-active", "failshut-monitor"))
        use(machine)
        must(machine.run("systemctl", "stop", "wg-quick@wg0"))
        machine.hear_noise()
    with phase(REMOVED):
        must(machine.run("failshut", "disarm", "--yes"))
        machine.hear_noise()
    must(machine.run("sh", "-ec", pipx.format(verb="uninstall")))
    must(machine.run("sh", "-ec", "rm -rf /opt/pipx /var/lib/failshut"))

    assert_that_only_the_unlocked_leaked(machine)
    assert before == snapshot(machine)


@thorough
def test_lintian_has_nothing_to_say_of_the_package():
    if shutil.which("lintian") is None:
        pytest.skip("needs lintian: run `make test`")
    said = subprocess.run(
        ("lintian", "--allow-root", "--fail-on=error,warning", str(package())), capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout


def arming_without_nft_is_refused(machine) -> None:
    must(machine.run("mv", "/usr/sbin/nft", "/usr/sbin/nft-away"))
    refused = machine.run("failshut", "arm")
    must(machine.run("mv", "/usr/sbin/nft-away", "/usr/sbin/nft"))
    assert not refused.ok
    assert "nft is not installed" in refused.err
    assert status(machine)["state"] == "disarmed"


def upgrading_with_another_schema_says_so(machine, built: str) -> None:
    machine.write("/etc/failshut/failshut.toml", _OTHER_SCHEMA)
    upgraded = must(dpkg(machine, "--install", built))
    machine.write("/etc/failshut/failshut.toml", POLICY)
    assert "key_of_another_version" in upgraded.out + upgraded.err
    assert "The lock is unchanged" in upgraded.out


def arming_without_a_good_signature_is_refused(machine) -> None:
    machine.write("/etc/failshut/allowed_signers", "")
    unsigned = machine.run("failshut", "arm")
    machine.write("/etc/failshut/failshut.toml.sig", "not a signature\n")
    wrong = machine.run("failshut", "arm")
    machine.remove("/etc/failshut/allowed_signers")
    machine.remove("/etc/failshut/failshut.toml.sig")
    assert (unsigned.code, "[S001]" in unsigned.err) == (2, True), unsigned.err
    # Where there is no ssh-keygen, none can be good.
    assert (wrong.code, "[S002]" in wrong.err or "[S005]" in wrong.err) == (2, True), wrong.err


def nothing_is_changed_in_a_read_only_etc(machine) -> None:
    machine.write("/etc/failshut/failshut.toml", f"{POLICY}\n[log]\nblocked = 'nflog'\n")
    must(machine.run("sh", "-c", "mount --bind /etc /etc && mount -o remount,bind,ro /etc"))
    unarmed = machine.run("failshut", "arm")
    unremoved = dpkg(machine, "--remove", "failshut")
    must(machine.run("umount", "/etc"))
    machine.write("/etc/failshut/failshut.toml", POLICY)
    assert (unarmed.code, "read-only" in unarmed.err.lower()) == (1, True), unarmed.err
    assert not unremoved.ok
    assert "the lock is still on, so the package stays" in unremoved.err


def assert_that_only_the_unlocked_leaked(machine) -> None:
    """End the capture; it must have seen the leaks before the lock, and after it with the tunnel down."""
    report = judged(machine)
    assert set(report.by_phase) <= {UNARMED, REMOVED, BETWEEN}, report
    assert {"udp", "icmp", "raw", "packet"} <= set(report.by_phase[REMOVED]), report


def lock(machine) -> str:
    """Return the rules in the kernel, without what they count."""
    return must(machine.run("sh", "-c", "nft -s list chain inet failshut postrouting; nft -s list chain inet failshut output")).out


def must(result):
    """Return the result of what must succeed."""
    assert result.ok, f"{result.out}\n{result.err}"
    return result

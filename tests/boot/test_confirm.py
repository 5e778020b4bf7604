"""An arming that must be confirmed: undone by systemd's own timer, whatever becomes of whoever set it; and disarming is exact."""

from __future__ import annotations

import pytest

from amount import thorough
from boot.living import assert_armed, status
from boot.machine import Machine
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

# Everything that arming may touch, in a form that compares; not what the guard is being told at this moment.
_FINGERPRINT = """
nft --stateless list ruleset
cd / && find etc/failshut etc/wireguard etc/systemd etc/udev etc/sysctl.d run/failshut* 2>/dev/null |
	grep -v -e /failshut.lock -e guard/new | sort
ip rule; ip -6 rule; ip -o link | grep -o 'group [^ ]*'
cat etc/wireguard/wg0.conf; wg show wg0 fwmark; cat proc/sys/net/ipv4/conf/all/src_valid_mark
systemctl list-unit-files 'failshut*' --no-legend; systemctl list-units --all 'failshut*' --no-legend --plain
systemctl show --value systemd-networkd wg-quick@wg0 -p Requires | tr ' ' '\\n' | sort
"""


def fingerprint(machine: Machine) -> str:
    return machine.run("sh", "-c", _FINGERPRINT).out


def reverted(machine: Machine, *, within: float = 30) -> bool:
    return until(lambda: status(machine)["reverts_in"] is None, within=within, step=0.1)


@pytest.mark.scenario(126)
def test_disarming_brings_back_exactly_what_was_there(quiet_machine):
    """Rules, files, units, settings and the tunnel's mark after arm, re-arm and disarm are those from before."""
    before = fingerprint(quiet_machine)

    for _ in range(2):
        armed = quiet_machine.run("failshut", "arm")
        assert armed.ok, armed.err
    during = fingerprint(quiet_machine)
    disarmed = quiet_machine.run("failshut", "disarm", "--yes")

    assert disarmed.ok, disarmed.err
    assert during != before
    assert fingerprint(quiet_machine) == before, _difference(before, fingerprint(quiet_machine))


@pytest.mark.scenario(125)
@pytest.mark.parametrize(
    "armed_before", [pytest.param(False, marks=thorough, id="disarmed before"), pytest.param(True, id="armed before")]
)
def test_an_arming_that_nobody_confirms_is_undone(quiet_machine, armed_before):
    """The lock is on at once, no boot knows of it, and when the time is over everything is as it was."""
    machine = quiet_machine
    if armed_before:
        assert machine.run("failshut", "arm").ok
        machine.write(
            "/etc/failshut/failshut.toml", machine.read("/etc/failshut/failshut.toml").replace("ndp = true", "ndp = false")
        )
    before = fingerprint(machine)

    armed = machine.run("failshut", "arm", "--confirm-within", "15")

    assert armed.ok, armed.err
    assert "Undone in 15 s" in armed.out
    assert status(machine)["reverts_in"] is not None
    assert fingerprint(machine) != before
    assert reverted(machine, within=90)
    assert until(lambda: fingerprint(machine).splitlines() == before.splitlines(), within=60, step=0.2), _difference(
        before, fingerprint(machine)
    )


def test_the_timer_needs_nobody(quiet_machine):
    """With the shell, failshut and Python itself gone, the arming is undone all the same."""
    machine = quiet_machine
    rules = machine.run("nft", "--stateless", "list", "ruleset").out

    assert machine.run("failshut", "arm", "--confirm-within", "3").ok
    assert machine.run("sh", "-c", "mv /usr/bin/python3 /usr/bin/python3.away; pkill -KILL -f '[f]ailshut arm'; true").ok

    assert until(lambda: machine.run("nft", "--stateless", "list", "ruleset").out == rules, within=30, step=0.2)
    assert until(lambda: "FwMark" not in machine.read("/etc/wireguard/wg0.conf"), within=60, step=0.2)
    assert "nobody confirmed" in machine.journal()


def test_arming_killed_half_way_is_undone_too(quiet_machine):
    """The timer is set before the first change: an arming that is killed at once leaves nothing when the time is over."""
    machine = quiet_machine
    before = fingerprint(machine)
    killed = (
        "failshut arm --confirm-within 4 & pid=$!; until nft list table inet failshut >/dev/null 2>&1; do :; done; kill -KILL $pid"
    )

    machine.run("sh", "-c", killed)

    assert reverted(machine)
    assert until(lambda: fingerprint(machine) == before, within=60, step=0.2), _difference(before, fingerprint(machine))


def test_an_arming_that_is_stopped_half_way_is_undone_too(quiet_machine):
    """Ctrl-Z, and the session is gone: what undoes it waits for an arming at work, but not for one that stands still."""
    machine = quiet_machine
    before = fingerprint(machine)
    stopped = (
        "setsid failshut arm --confirm-within 4 >/dev/null 2>&1 & pid=$!; "
        "until nft list table inet failshut >/dev/null 2>&1; do :; done; kill -STOP $pid"
    )

    machine.run("sh", "-c", stopped)

    assert reverted(machine, within=60)
    assert until(lambda: fingerprint(machine) == before, within=60, step=0.2), _difference(before, fingerprint(machine))


def test_what_is_confirmed_stays(quiet_machine):
    """After `confirm` no timer is left, and the boot loads the lock."""
    machine = quiet_machine
    assert machine.run("failshut", "arm", "--confirm-within", "60").ok
    second = machine.run("failshut", "arm")
    assert second.code == 1
    assert "waits to be confirmed" in second.err

    confirmed = machine.run("failshut", "confirm")

    assert confirmed.ok, confirmed.err
    now = status(machine)
    assert (now["state"], now["reverts_in"], now["boot"]["loaded_by"], now["guard"]) == ("armed", None, "systemd", True)
    assert "failshut-revert" not in machine.run("systemctl", "list-timers", "--all").out
    assert machine.run("failshut", "confirm").code == 1
    machine.reboot()
    assert_armed(machine)


def test_what_undid_an_arming_and_is_still_known_to_systemd_hinders_no_other(quiet_machine):
    """On a busy machine systemd keeps a unit that has ended until something asks for it; here one that would stay."""
    ended = ("systemd-run", "--quiet", "--unit=failshut-revert.service", "--property=RemainAfterExit=yes", "true")
    assert quiet_machine.run(*ended).ok
    assert quiet_machine.eventually("systemctl", "is-active", "--quiet", "failshut-revert.service")

    armed = quiet_machine.run("failshut", "arm", "--confirm-within", "60")

    assert armed.ok, armed.err
    assert status(quiet_machine)["reverts_in"] is not None


def test_armed_over_ssh_it_must_be_confirmed(quiet_machine):
    """Who arms in an SSH session, with sudo or without, is asked to confirm; a second arming that changes nothing is not."""
    session = ("env", "SSH_CONNECTION=192.168.77.1 50000 192.168.77.2 22")

    armed = quiet_machine.run(*session, "failshut", "arm")

    assert "unless you confirm" in armed.out, armed.err
    assert status(quiet_machine)["reverts_in"] is not None
    assert quiet_machine.run(*session, "failshut", "confirm").ok
    assert "unless you confirm" not in quiet_machine.run(*session, "failshut", "arm").out


def _difference(before: str, after: str) -> str:
    ours, theirs = before.splitlines(), after.splitlines()
    return "\n".join([f"- {each}" for each in ours if each not in theirs] + [f"+ {each}" for each in theirs if each not in ours])

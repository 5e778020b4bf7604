"""A booted machine with the monitor up: what other tools do to the lock leaks nothing, and is put back and said."""

from __future__ import annotations

import json

import pytest

from boot.living import arm, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address, Machine
from boot.roots import BOOKWORM

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"]),
    pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"]),
]

TIMES = 15
# systemd itself would refuse so many starts.
_RESTART = "for each in $(seq %d); do systemctl reset-failed nftables; systemctl restart nftables || exit; done"
_FLUSH = "for each in $(seq %d); do nft flush ruleset; sleep 0.02; done"
_IPTABLES = "for each in $(seq %d); do iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -F; done"


def watches(machine: Machine) -> bool:
    """Wait until the monitor has looked and found the lock armed."""
    return machine.eventually("grep", "-q", '"lock": "armed"', "/run/failshut/status.json", within=30)


def events(machine: Machine) -> list[dict]:
    """Return what the monitor recorded."""
    return [json.loads(line) for line in machine.run("cat", "/run/failshut/events.jsonl").out.splitlines()]


def test_with_the_monitor_up_and_then_killed_nothing_that_other_tools_do_leaks(machine):
    phase = machine.router.wire.phase
    arm(machine)
    assert watches(machine), machine.journal()
    shown = machine.run("systemctl", "show", "-P", "CapabilityBoundingSet", "failshut-monitor").out.split()
    assert shown == ["cap_setgid", "cap_setuid", "cap_net_admin"]
    for name, script in (("flush ruleset", _FLUSH), ("iptables -F", _IPTABLES), ("nftables restarted", _RESTART)):
        with phase(name):
            assert machine.run("sh", "-c", script % TIMES).ok
            machine.hear_noise(20)
    with phase("an accepting rule"):
        assert machine.run("nft", "insert rule inet failshut postrouting accept").ok
        assert machine.eventually("sh", "-c", "! nft list chain inet failshut postrouting | grep -qx '\t\taccept'"), (
            machine.journal()
        )
    assert watches(machine)
    use(machine)
    told = events(machine)
    assert any("chain postrouting: + accept" in each["message"] for each in told), told
    assert machine.eventually("sh", "-c", "journalctl FAILSHUT_EVENT=drift | grep -q 'put back'")
    with phase("killed amid flushes"):
        before = machine.run("systemctl", "show", "-P", "MainPID", "failshut-monitor").out.strip()
        script = f"({_FLUSH % TIMES}) & systemctl kill --signal=KILL failshut-monitor; wait"
        assert machine.run("sh", "-c", script).ok
        assert machine.eventually("sh", "-c", f"[ $(systemctl show -P MainPID failshut-monitor) -gt {before} ]"), machine.journal()
        assert watches(machine), machine.journal()
        assert status(machine)["state"] == "armed"
    with phase("stopped, and power-off"):
        assert machine.run("systemctl", "stop", "failshut-monitor").ok
        machine.hear_noise(20)
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)

"""A booted machine with the monitor up: what other tools do to the lock leaks nothing, and is put back and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import notification_daemon
from boot.living import arm, assert_armed, assert_that_nothing_leaked_once_armed, status, use
from boot.machine import Address, Machine
from boot.roots import BOOKWORM

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

TIMES = 15
TEXTFILE = "/var/lib/prometheus/node-exporter/failshut.prom"
METRICS = f"""
[metrics]
textfile = "{TEXTFILE}"
"""
_ASK = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9586').read().decode())"
_SCRAPE = f'python3 -c "{_ASK}" | grep -q "^failshut_armed 1.0"'
# systemd itself would refuse so many starts.
_RESTART = "for each in $(seq %d); do systemctl reset-failed nftables; systemctl restart nftables || exit; done"
_FLUSH = "for each in $(seq %d); do nft flush ruleset; sleep 0.02; done"
_IPTABLES = "for each in $(seq %d); do iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -F; done"


# A user's session bus as a login makes it, and on it something that shows notices.
_SESSION = """
useradd --uid 1000 someone
install -d -m 700 -o 1000 -g 1000 /run/user/1000
systemd-run --quiet --uid=1000 --unit=bus dbus-daemon --session --nofork --nopidfile --address=unix:path=/run/user/1000/bus
until [ -S /run/user/1000/bus ]; do sleep 0.05; done
systemd-run --quiet --uid=1000 --unit=screen --setenv=PYTHONPATH=/opt/failshut/lib sh -c \\
	'exec python3 /usr/local/lib/notification_daemon.py /run/user/1000/bus >/run/user/1000/said'
"""


def watches(machine: Machine) -> bool:
    """Wait until the monitor has looked and found the lock armed."""
    return machine.eventually("grep", "-q", '"lock": "armed"', "/run/failshut/status.json", within=30)


def events(machine: Machine) -> list[dict]:
    """Return what the monitor recorded."""
    return [json.loads(line) for line in machine.run("cat", "/run/failshut/events.jsonl").out.splitlines()]


@pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
@pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"])
def test_with_the_monitor_up_and_then_killed_nothing_that_other_tools_do_leaks(machine):
    phase = machine.router.wire.phase
    arm(machine)
    assert watches(machine), machine.journal()
    shown = machine.run("systemctl", "show", "-P", "CapabilityBoundingSet", "failshut-monitor").out.split()
    assert shown == ["cap_setgid", "cap_setuid", "cap_net_admin"]
    for name, script in (("flush ruleset", _FLUSH), ("iptables -F", _IPTABLES), ("nftables restarted", _RESTART)):
        with phase(name):
            assert machine.run("sh", "-c", script % TIMES).ok
            machine.hear_noise(10)
    with phase("an accepting rule"):
        assert machine.run("nft", "insert rule inet failshut postrouting accept").ok
        assert machine.eventually("sh", "-c", "! nft list chain inet failshut postrouting | grep -qx '\t\taccept'"), (
            machine.journal()
        )
    assert watches(machine)
    use(machine)
    told = events(machine)
    assert any("chain postrouting: 1 rule(s) added" in each["message"] for each in told), told
    assert machine.eventually("sh", "-c", "journalctl FAILSHUT_EVENT=drift | grep -q 'put back'")
    with phase("killed amid flushes"):
        before = machine.run("systemctl", "show", "-P", "MainPID", "failshut-monitor").out.strip()
        script = f"({_FLUSH % TIMES}) & systemctl kill --signal=KILL failshut-monitor; wait"
        assert machine.run("sh", "-c", script).ok
        assert machine.eventually("sh", "-c", f"[ $(systemctl show -P MainPID failshut-monitor) -gt {before} ]"), machine.journal()
        assert watches(machine), machine.journal()
        assert_armed(machine)
    with phase("stopped, and power-off"):
        assert machine.run("systemctl", "stop", "failshut-monitor").ok
        machine.hear_noise(10)
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


def test_the_sandboxed_monitor_holds_a_new_device_looks_for_the_server_and_tells_the_user(quiet_machine):
    """What needs rights: the packet filter, the unit that refreshes, and another user's session bus. Then it is taken off whole."""
    machine = quiet_machine
    machine.write("/usr/local/lib/notification_daemon.py", Path(notification_daemon.__file__).read_text())
    assert machine.run("sh", "-ec", _SESSION).ok
    assert machine.eventually("grep", "-q", "ready", "/run/user/1000/said"), machine.journal()
    assert machine.run("mkdir", "-p", str(Path(TEXTFILE).parent)).ok
    machine.write("/etc/failshut/failshut.toml", machine.read("/etc/failshut/failshut.toml") + METRICS)
    armed = machine.run("failshut", "arm")
    assert armed.ok, armed.complaint
    assert watches(machine), machine.journal()
    assert status(machine)["monitor"]

    assert machine.eventually("sh", "-c", f"{_SCRAPE} && grep -q '^failshut_armed 1.0' {TEXTFILE}"), machine.journal()

    assert machine.run("sh", "-ec", "ip link add usb0 type veth peer name far; ip link set far up; ip link set usb0 up").ok
    assert machine.eventually("nft", "list", "chain", "netdev", "failshut", "egress-usb0"), machine.journal()
    # Reading another's table is free; writing is the guard's alone.
    assert machine.eventually("nft", "list", "chain", "netdev", "failshut-guard", "egress-usb0"), machine.journal()
    assert_armed(machine)

    assert machine.run("wg-quick", "down", "wg0").ok
    assert machine.eventually("grep", "-q", "Locked: the tunnel is down", "/run/user/1000/said"), machine.journal()
    assert machine.run("sh", "-c", "echo wg0 >/run/failshut/refresh").ok
    assert machine.eventually("sh", "-c", "journalctl --unit failshut-refresh | grep -q wg0"), machine.journal()

    killed = machine.run("systemctl", "kill", "--signal=KILL", "failshut-monitor")
    assert killed.ok
    assert machine.eventually("sh", "-c", "failshut status --json | grep -q '\"monitor\": true'"), machine.journal()
    assert machine.run("failshut", "disarm", "--yes").ok
    script = "find /etc/systemd -name 'failshut*'; find /run/failshut; systemctl list-unit-files 'failshut*' --no-legend"
    left = machine.run("sh", "-c", script)
    assert left.out == "", left
    assert machine.run("nft", "list", "tables").out.count("failshut") == 0

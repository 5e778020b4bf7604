"""What the boot tests can see: without a lock the noise leaks by every way, and with the guide's own design some of it does."""

from __future__ import annotations

import pytest

from boot import noise
from boot.machine import Machine
from boot.router import ENDPOINT, PORT
from boot.wire import Report

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

# The guide's rules for one family, as netfilter-persistent loads them.
_RULES = """\
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -i wg0 -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
{own}
COMMIT
"""
_RULES4 = _RULES.format(
    own=f"-A OUTPUT -p udp -d {ENDPOINT} --dport {PORT} -j ACCEPT\n-A OUTPUT -p udp --sport 68 --dport 67 -j ACCEPT"
)
_RULES6 = _RULES.format(
    own="-A INPUT -p ipv6-icmp -j ACCEPT\n"
    "-A OUTPUT -p ipv6-icmp -d fe80::/10 -j ACCEPT\n-A OUTPUT -p ipv6-icmp -d ff02::/16 -j ACCEPT"
)
_DROP_IN = "[Unit]\nAfter=netfilter-persistent.service\nRequires=netfilter-persistent.service\n"


# What a filter of IP packets can hold: all but the frames of packet sockets.
IP = frozenset(noise.TARGETS) - {"packet", "bypass"}


def live_a_day(machine: Machine) -> Report:
    """Boot, use the tunnel, reboot, use it again, power off."""
    wire, router = machine.router.wire, machine.router
    for verb, switch_on in (("boot", machine.boot), ("reboot", machine.reboot)):
        with wire.phase(verb):
            switch_on()
        with wire.phase(f"tunnel up after {verb}"):
            assert router.carries(), machine.journal()
            machine.hear_noise()
    with wire.phase("power-off"):
        machine.power_off()
    return wire.stop(router.case)


def test_without_a_lock_the_noise_leaks_by_every_way(machine):
    report = live_a_day(machine)

    assert set(noise.TARGETS) <= set(report.by_kind), report


def test_the_guides_design_leaks(machine):
    machine.write("/etc/iptables/rules.v4", _RULES4)
    machine.write("/etc/iptables/rules.v6", _RULES6)
    machine.write("/etc/systemd/system/wg-quick@.service.d/after-the-rules.conf", _DROP_IN)
    machine.systemctl_offline("enable", "netfilter-persistent")

    report = live_a_day(machine)

    assert "Finished netfilter-persistent.service" in machine.journal()
    assert set(report.by_kind) & IP, report

"""An armed machine lives its life, and from the first process to the last nothing leaves that the policy does not allow."""

from __future__ import annotations

import pytest

from amount import thorough
from boot.living import arm, assert_that_nothing_leaked_once_armed, use
from boot.machine import Address
from boot.roots import BOOKWORM, TRIXIE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


# Each Debian once; thoroughly, each kind of address on each.
@pytest.mark.parametrize(
    ("tree", "machine"),
    [
        (TRIXIE, Address.DHCP),
        (BOOKWORM, Address.IFUPDOWN),
        pytest.param(BOOKWORM, Address.STATIC, marks=thorough),
        pytest.param(TRIXIE, Address.STATIC, marks=thorough),
        pytest.param(BOOKWORM, Address.DHCP, marks=thorough),
        pytest.param(TRIXIE, Address.IFUPDOWN, marks=thorough),
    ],
    indirect=True,
    ids=lambda each: each if isinstance(each, str) else each.name,
)
@pytest.mark.scenario(64, 66)
def test_nothing_leaks_in_a_day_of_an_armed_machine(machine):
    phase = machine.router.wire.phase
    arm(machine)
    with phase("the tunnel up"):
        use(machine)
    with phase("wireguard-go killed"):
        assert machine.run("pkill", "-KILL", "-x", "wireguard-go").ok
        machine.hear_noise()
    with phase("wg-quick restarted"):
        machine.run("systemctl", "restart", "wg-quick@wg0")
        use(machine)
    with phase("wg-quick stopped"):
        assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
        machine.hear_noise()
    with phase("wg-quick started"):
        assert machine.run("systemctl", "start", "wg-quick@wg0").ok
        use(machine)
    with phase("the network manager restarted"):
        # systemd-networkd deletes routing rules that are not its own, and with wg-quick's the way into the tunnel.
        assert machine.run("systemctl", "restart", machine.address.manager).ok
        machine.hear_noise()
    with phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    with phase("the power cut, and the boot after it"):
        machine.power_cut()
        assert machine.boot() == "running", machine.journal()
        use(machine)
    with phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)

"""systemd-networkd's and NetworkManager's own WireGuard, which is the kernel's, on a whole machine.

Each brings the tunnel up and manages the card too. Whatever its own tool does to the tunnel, the server's silence, a start of the
machine: without a lock each is seen to leak, with the lock none does, and the tunnel carries again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from boot.router import ENDPOINT
from vm.chronicle import Chronicle
from vm.living import BELOW_IP, UNLOCKED, Event, arm, in_peace, use
from vm.machine import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]

TUNNEL, QUICK = "wg0", "wg-quick@wg0.service"
# Without a mark, so that arming has to write it: the server is excepted by its address.
NETDEV = f"""\
[NetDev]
Name={TUNNEL}
Kind=wireguard

[WireGuard]
PrivateKey={{private}}
RouteTable=1000

[WireGuardPeer]
PublicKey={{public}}
AllowedIPs=0.0.0.0/0,::/0
Endpoint={{endpoint}}:{{port}}
"""
NETWORK = f"""\
[Match]
Name={TUNNEL}

[Network]
Address=10.99.0.2/32
Address=fd99::2/128

[RoutingPolicyRule]
To={ENDPOINT}/32
Priority=9

[RoutingPolicyRule]
Family=both
SuppressPrefixLength=0
Priority=10

[RoutingPolicyRule]
Family=both
Table=1000
Priority=11
"""
# So that there is a way out while systemd-networkd is stopped.
KEEP = "[Network]\nKeepConfiguration=dhcp-on-stop\n"
# The judge knows the addresses that follow from the hardware's.
ADDRESSES = "[connection]\nipv6.addr-gen-mode=0\nipv6.ip6-privacy=0\n"
IMPORT = ("nmcli", "connection", "import", "type", "wireguard", "file", "/etc/wireguard/wg0.conf")


@dataclass(frozen=True, slots=True)
class Manager:
    """Who brings the tunnel up: its units, what takes the tunnel down and up, and where its config lies. `off` are masked."""

    name: str
    units: tuple[str, ...]
    off: tuple[str, ...]
    down: tuple[str, ...]
    up: tuple[str, ...]
    config: str
    files: dict[str, str] = field(default_factory=dict)
    set_up: tuple[str, ...] = ("true",)

    @property
    def words(self) -> str:
        """What the kernel is told, so that only this one manages the network."""
        return " ".join([f"systemd.wants={self.units[-1]}", *(f"systemd.mask={each}" for each in (QUICK, *self.off))])


# The socket would start it again at the next link's change.
_NETWORKD = ("systemd-networkd.socket", "systemd-networkd.service")
NETWORKD = Manager(
    "systemd-networkd",
    _NETWORKD,
    (),
    ("networkctl", "down", TUNNEL),
    ("networkctl", "up", TUNNEL),
    "/etc/systemd/network/40-wg0.netdev",
    {
        "/etc/systemd/network/40-wg0.netdev": NETDEV,
        "/etc/systemd/network/40-wg0.network": NETWORK,
        "/etc/systemd/network/10-cable.network.d/keep.conf": KEEP,
    },
)
NETWORK_MANAGER = Manager(
    "NetworkManager",
    ("NetworkManager.service",),
    _NETWORKD,
    ("nmcli", "connection", "down", TUNNEL),
    ("nmcli", "connection", "up", TUNNEL),
    "/etc/NetworkManager/system-connections/wg0.nmconnection",
    {"/etc/NetworkManager/conf.d/addresses.conf": ADDRESSES},
    IMPORT,
)


def events_of(manager: Manager) -> tuple[Event, ...]:
    """What befalls the tunnel."""

    def named(words: str, befall: Callable[[Machine], None], *leaks: frozenset[str]) -> Event:
        return Event(f"{manager.name}: {words}", befall, *leaks)

    def down_and_up(machine: Machine) -> None:
        must(machine, *manager.down)
        machine.hear_noise()
        must(machine, *manager.up)

    def restart(machine: Machine) -> None:
        must(machine, "systemctl", "restart", manager.units[-1])
        machine.hear_noise()

    def stop_and_lose_the_device(machine: Machine) -> None:
        must(machine, "systemctl", "stop", *manager.units)
        must(machine, "ip", "link", "delete", TUNNEL)
        machine.hear_noise()
        must(machine, "systemctl", "start", *manager.units)

    return (
        named("the tunnel down and up", down_and_up),
        named("the server silent", hear_nothing_of_the_server, BELOW_IP),
        named("restarted", restart, BELOW_IP),
        named("stopped, the tunnel's device deleted, started", stop_and_lose_the_device),
    )


def hear_nothing_of_the_server(machine: Machine) -> None:
    """The server answers no packet and no handshake, then knows the machine again."""
    machine.router.ignore_client()
    before = machine.router.carried()
    machine.hear_noise()
    assert machine.router.carried() == before, "the control: the server was not silent"
    machine.router.forget_client()


@pytest.mark.parametrize("manager", [NETWORKD, NETWORK_MANAGER], ids=lambda each: each.name)
def test_a_managers_own_wireguard_is_held_whatever_befalls_it(machine_with, manager: Manager, chronicle: Chronicle):
    machine = machine_with(manager.words)
    machine.write_offline({path: machine.router.config_as(text) for path, text in manager.files.items()})
    started, events = f"{manager.name}: started with the machine", events_of(manager)
    with machine.wire.phase(UNLOCKED):
        machine.boot()
        must(machine, *manager.set_up)
        use(machine)
        assert_that_the_kernel_carries_it(machine)
    chronicle.start_is_seen_to_leak(machine, started)
    chronicle.every_event_is_seen_to_leak(machine, events)

    adopted = in_peace(machine, "failshut", "init", TUNNEL, "--force")
    assert adopted.ok, adopted
    assert f'config = "{manager.config}"' in must(machine, "cat", "/etc/failshut/failshut.toml")
    arm(machine)
    chronicle.every_event_is_held(machine, events)
    with chronicle.held(machine, started):
        assert_that_it_is_armed(machine, manager)
        assert machine.restart("systemctl", "reboot") == "running", machine.journal()
        use(machine)
        assert_that_the_kernel_carries_it(machine)
        assert_that_it_is_armed(machine, manager)
    with chronicle.held(machine, f"{manager.name}: `failshut verify`"):
        verified = in_peace(machine, "failshut", "verify", "--yes")
        assert verified.ok, verified
        assert manager.name in verified.err
        use(machine)
    machine.power_off()
    assert machine.lost() == 0


def assert_that_the_kernel_carries_it(machine: Machine) -> None:
    """The manager's device is the kernel's WireGuard, and nothing else is there."""
    links = json.loads(must(machine, "ip", "-json", "-details", "link", "show", TUNNEL))
    assert links[0]["linkinfo"]["info_kind"] == "wireguard"


def assert_that_it_is_armed(machine: Machine, manager: Manager) -> None:
    """Nothing has drifted, and the tunnel has the mark that arming wrote into the manager's config."""
    mark = must(machine, "wg", "show", TUNNEL, "fwmark").strip()
    words = must(machine, "sh", "-c", f"grep -rhiE '^(fwmark|FirewallMark)=' {manager.config}*")
    assert [int(each.partition("=")[2], 0) for each in words.splitlines()] == [int(mark, 16)]
    status = in_peace(machine, "failshut", "status")
    assert status.ok, status


def must(machine: Machine, *argv: str) -> str:
    """Run a program that must succeed; return its output."""
    done = machine.run(*argv)
    assert done.ok, done
    return done.out

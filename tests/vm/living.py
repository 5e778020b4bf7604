"""What the tests do with a machine, and what befalls it: without a lock, where it must be seen to leak, and with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from boot import noise
from boot.router import ENDPOINT, PORT
from boot.wire import Report, kind_of
from failshut.host.run import Result
from vm import early
from vm.machine import CARD, ROGUE4, SECOND, Machine

UNLOCKED, ARMING = "without a lock", "while arming"
BY_IP = frozenset({"udp", "tcp", "icmp", "raw"})
BELOW_IP = frozenset({"packet", "bypass"})
# As root may: with the tunnel's mark and to its server, but it is no handshake.
_FORGERS = f"""
import socket
for number in range(20):
    forger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    forger.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0xCA6C)
    try:
        forger.sendto({noise.TAG!r}, ("{ENDPOINT}", {PORT}))
    except OSError:
        pass
"""


def use(machine: Machine) -> None:
    """Have the tunnel carry the noise, which the server sees."""
    assert machine.carries(), machine.journal()
    machine.hear_noise()


def arm(machine: Machine) -> None:
    """Put the lock on."""
    with machine.wire.phase(ARMING):
        done = in_peace(machine, "failshut", "arm")
        assert done.ok, done.complaint
        machine.hear_noise()
    # Begun before the lock was on.
    judged(machine)


def disarm(machine: Machine) -> None:
    """Take the lock off."""
    done = in_peace(machine, "failshut", "disarm", "--yes")
    assert done.ok, done.complaint
    judged(machine)


def in_peace(machine: Machine, *argv: str) -> Result:
    """Run a program while the noise stands still, its connections open: beside it an emulated processor needs minutes more."""
    machine.run("systemctl", "kill", "--signal=STOP", "noise")
    try:
        return machine.run(*argv, timeout=1800)
    finally:
        machine.run("systemctl", "kill", "--signal=CONT", "noise")


def judged(machine: Machine) -> Report:
    """Judge what left since the last time."""
    return machine.wire.judged(machine.case)


def _tunnel(machine: Machine, verb: str) -> None:
    done = machine.run("systemctl", verb, "wg-quick@wg0")
    assert done.ok, done.complaint


def _await_address(machine: Machine, device: str) -> None:
    assert machine.eventually("sh", "-c", f"ip -4 -br address show dev {device} | grep -q 192.168"), machine.journal()


def take_the_module_away(machine: Machine) -> None:
    """The kernel loses WireGuard, and with it the tunnel."""
    done = machine.run("modprobe", "-r", "wireguard")
    assert done.ok, done.complaint
    assert not machine.run("ip", "link", "show", "wg0").ok
    machine.hear_noise()
    _tunnel(machine, "restart")


def unplug_and_replug(machine: Machine) -> None:
    """The card goes while the tunnel is down, and comes back under its name."""
    _tunnel(machine, "stop")
    machine.unplug()
    machine.hear_noise()
    assert not machine.run("ip", "link", "show", CARD).ok
    machine.replug()
    _await_address(machine, CARD)
    # Its packet sockets are those of the card that was taken out.
    assert machine.run("systemctl", "restart", "noise").ok
    machine.hear_noise()
    _tunnel(machine, "start")


def plug_in_a_second_card(machine: Machine) -> None:
    """Another way out appears while the tunnel is down, and is taken out again."""
    _tunnel(machine, "stop")
    machine.plug_second()
    _await_address(machine, SECOND)
    machine.hear_noise()
    machine.unplug_second()
    _tunnel(machine, "start")


def hear_a_rogue_dhcp_server(machine: Machine) -> None:
    """Routes for everything, another gateway, another resolver: the machine obeys, and the tunnel is up.

    Without failshut, systemd-networkd takes the tunnel's routing rules away when it reconfigures: the tunnel is started anew then.
    """
    machine.serve_addresses(rogue=True)
    assert machine.run("networkctl", "renew", CARD).ok
    assert machine.eventually("sh", "-c", f"ip route show 198.51.100.0/24 | grep -q {ROGUE4}"), machine.run("ip", "route").out
    machine.hear_noise()
    machine.serve_addresses()
    assert machine.run("networkctl", "reconfigure", CARD).ok
    assert machine.eventually("sh", "-c", f"! ip route show 198.51.100.0/24 | grep -q {ROGUE4}"), machine.run("ip", "route").out
    _await_address(machine, CARD)
    _tunnel(machine, "restart")


def flush_the_firewall(machine: Machine) -> None:
    """Somebody flushes every rule, again and again, while the tunnel is down."""
    _tunnel(machine, "stop")
    for _ in range(5):
        machine.run("nft", "flush", "ruleset")
        machine.hear_noise(5)
    _tunnel(machine, "start")


def sleep_and_wake(machine: Machine) -> None:
    """Every device goes to sleep and wakes again after five seconds.

    That far the kernel itself goes for a test (pm_test). From real sleep no machine came back in qemu: it says that it wakes, and
    the kernel does not go on.
    """
    asleep = "echo devices > /sys/power/pm_test && echo freeze > /sys/power/state"
    done = machine.run("sh", "-c", f"{asleep}; code=$?; echo none > /sys/power/pm_test; exit $code")
    assert done.ok, done.complaint
    machine.hear_noise()


def forge_the_tunnel(machine: Machine) -> None:
    """Root sends to the server with the tunnel's mark, from a socket."""
    assert machine.run("python3", "-c", _FORGERS).ok


@dataclass(frozen=True, slots=True)
class Event:
    """Something that befalls a running machine, and by which kinds it must be seen to leak without a lock."""

    name: str
    befall: Callable[[Machine], None]
    leaks: frozenset[str] = BY_IP | BELOW_IP


EVENTS = (
    Event("wireguard module removed", take_the_module_away),
    Event("card unplugged and replugged", unplug_and_replug),
    Event("second card", plug_in_a_second_card),
    Event("rogue DHCP server", hear_a_rogue_dhcp_server),
    Event("sleep and wake", sleep_and_wake, BELOW_IP),
    Event("nft flush ruleset", flush_the_firewall),
    Event("forged transport", forge_the_tunnel, BELOW_IP | {"forged"}),
)


def kinds(report: Report, phase: str) -> set[str]:
    """Return by which kinds of the noise a phase leaked."""
    leaks = [leak.packet for at, leak in report.leaks if at == phase]
    forged = {"forged" for each in leaks if str(each.target) == ENDPOINT and each.payload == noise.TAG}
    return {early.KIND if str(each.target) == early.TARGET else kind_of(each) for each in leaks} | forged

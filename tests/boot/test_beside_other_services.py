"""Services that load or flush the firewall as a machine starts and stops: beside each of them nothing leaks."""

from __future__ import annotations

import pytest

from amount import thorough
from boot import noise, roots
from boot.living import arm, assert_that_nothing_leaked_once_armed, judged, use
from boot.machine import Address, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

static = pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
crowded = pytest.mark.parametrize("tree", [roots.CROWDED], indirect=True, ids=["crowded"])
network_manager = pytest.mark.parametrize("machine", [Address.NETWORK_MANAGER], indirect=True, ids=["NetworkManager"])
_RULES = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n"


def live_with(machine: Machine, service: str) -> None:
    """Boot with the service, restart and stop it, power off with it running."""
    phase = machine.router.wire.phase
    with phase(f"reboot with {service}"):
        machine.systemctl_offline("enable", service)
        machine.reboot()
        assert machine.run("systemctl", "is-active", service).ok, machine.journal()
        use(machine)
    for verb in ("restart", "stop", "start"):
        with phase(f"{verb} {service}"):
            done = machine.run("systemctl", verb, service)
            assert done.ok, done.complaint
            machine.hear_noise()
    with phase("power-off"):
        machine.power_off()


@static
def test_beside_nftables_service_which_flushes_everything(machine):
    arm(machine)
    assert "flush ruleset" in machine.read("/etc/nftables.conf")
    live_with(machine, "nftables.service")

    assert_that_nothing_leaked_once_armed(machine)


@static
def test_beside_netfilter_persistent_told_to_flush(machine):
    machine.write("/etc/default/netfilter-persistent", "FLUSH_ON_STOP=1\n")
    machine.write("/etc/iptables/rules.v4", _RULES)
    machine.write("/etc/iptables/rules.v6", _RULES)
    arm(machine)
    live_with(machine, "netfilter-persistent.service")

    assert_that_nothing_leaked_once_armed(machine)


def say(machine: Machine, *commands: str) -> None:
    """Run each command, which must succeed, in a phase of its own; the noise is heard after it."""
    for command in commands:
        with machine.router.wire.phase(command):
            done = machine.run(*command.split())
            assert done.ok, done.complaint
            machine.hear_noise()


@network_manager
@crowded
def test_under_networkmanager(machine):
    arm(machine)
    with machine.router.wire.phase("reboot"):
        assert machine.reboot() == "running", machine.journal()
        use(machine)
    say(machine, "systemctl restart NetworkManager", "nmcli networking off", "nmcli networking on")
    with machine.router.wire.phase("power-off"):
        machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.scenario(97)
@static
@crowded
def test_beside_ufw(machine):
    arm(machine)
    say(machine, "ufw --force enable", "ufw default allow outgoing", "ufw reload")
    live_with(machine, "ufw.service")
    machine.boot()
    say(machine, "ufw --force reset", "ufw disable")
    machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


@pytest.mark.scenario(96)
@thorough
@static
@crowded
def test_beside_firewalld(machine):
    arm(machine)
    live_with(machine, "firewalld.service")
    machine.boot()
    say(machine, "firewall-cmd --reload", "firewall-cmd --complete-reload", "firewall-cmd --panic-on", "firewall-cmd --panic-off")
    machine.power_off()

    assert_that_nothing_leaked_once_armed(machine)


def run_container(machine: Machine) -> None:
    """Have Docker run the noise in a container on its bridge, from an image that holds nothing."""
    assert machine.run("sh", "-c", "tar --create --files-from /dev/null | docker import - empty").ok
    shared = [f"--volume={each}:{each}:ro" for each in ("/usr", "/bin", "/lib", "/lib64")]
    counts = "--volume=/run/container:/run"
    command = ("python3", "-I", "-S", "-E", "/usr/local/lib/noise.py")
    done = machine.run("docker", "run", "--detach", "--restart=always", "--stop-signal=KILL", counts, *shared, "empty", *command)
    assert done.ok, done.complaint


def hear_container(machine: Machine) -> None:
    """Wait until the container has tried some more."""
    machine.run("rm", "-f", "/run/container/failshut-noise")
    assert machine.eventually("test", "-e", "/run/container/failshut-noise")


@pytest.mark.scenario(95)
@thorough
@static
@crowded
def test_beside_docker(machine):
    """The container is on Docker's bridge, behind its masquerading; before the lock it is the only one to make noise."""
    phase = machine.router.wire.phase
    machine.boot()
    machine.run("systemctl", "stop", "noise", "wg-quick@wg0")
    machine.run("systemctl", "start", "docker")
    with phase("a container without a lock"):
        run_container(machine)
        hear_container(machine)
    machine.run("systemctl", "start", "noise", "wg-quick@wg0")
    with phase("before the lock"):
        use(machine)
        assert machine.run("failshut", "arm").ok
    say(machine, "systemctl stop wg-quick@wg0", "systemctl restart docker", "systemctl start wg-quick@wg0")
    with phase("a container with the lock"):
        hear_container(machine)
    live_with(machine, "docker.service")
    report = judged(machine)

    assert set(noise.TARGETS) & set(report.by_phase["a container without a lock"]), report
    assert set(report.by_phase) <= {"between phases", "a container without a lock", "before the lock"}, report

"""Containers of the real dockerd and podman on a machine that boots: the tunnel is their only way out, or there is none."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from amount import thorough
from boot import noise, roots
from boot.living import UNARMED, assert_armed
from boot.machine import Address, Machine
from boot.router import POLICY, SERVER_DEVICE
from failshut.drill.network.wait import until
from seen import out_of_the_tunnel, watch_tunnel

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("tree", [roots.WORKSHOP], indirect=True, ids=["workshop"]),
    pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"]),
]

# "raw" is left out: of a protocol without ports one sender at a time is masqueraded.
V4, V6, LINK = frozenset({"udp", "tcp", "icmp"}), frozenset({"udp6"}), frozenset({"packet", "bypass"})
_DAEMON = {"ipv6": True, "fixed-cidr-v6": "fd31::/64", "experimental": True, "ip6tables": True}
# The machine's disk is an overlay, on which podman makes none.
_STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
# crun would raise a limit that the tester may not, and who counts processes is not everywhere.
_PODMAN = '[containers]\npids_limit = 0\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n'
_NETWORKS = """
set -e
# No duplicate detection: a bridge answers as soon as a container is on it.
for each in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$each; done
for tool in docker podman; do tar --create --files-from /dev/null | $tool import - empty; done
docker network create --driver=macvlan --opt=parent=host0 --subnet=192.168.77.0/24 --gateway=192.168.77.1 \
    --aux-address=machine=192.168.77.2 --ipv6 --subnet=fd77::/64 --gateway=fd77::1 cable
docker network create --subnet=172.31.7.0/24 --ipv6 --subnet=fd32::/64 user
podman network create --subnet=172.31.8.0/24 --ipv6 --subnet=fd33::/64 user
"""
# A bridge has its IPv6 addresses when it has had a port for a moment.
_SETTLED = """
for device in $(ip -o link show up | awk -F '[:@ ]+' '/LOWER_UP/ { print $2 }'); do
    if ip -6 addr show dev "$device" tentative | grep -q inet6; then exit 1; fi
done
"""
_IPV6_FROM_BRIDGES = """
for bridge in $(ip -o link show type bridge | awk -F '[:@ ]+' '{ print $2 }'); do cat /proc/net/dev_snmp6/$bridge; done |
    awk '$1 == "Ip6InReceives" { sum += $2 } END { print sum }'
"""
_SHARED = tuple(f"--volume={each}:{each}:ro" for each in ("/usr", "/bin", "/lib", "/lib64"))
_NOISE = ("python3", "-I", "-S", "-E", "/usr/local/lib/noise.py")
# Where the noise in a container counts, seen from the machine.
_COUNTS = "/run/container"
CONTROL = "no lock"
SERVICE_PORT = 9100
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
_SERVE = f"import socket\nserver = socket.create_server(('', {SERVICE_PORT}))\nwhile True: server.accept()[0].close()"


@dataclass(frozen=True)
class Kind:
    """A container by its network."""

    tool: str
    network: str
    # What gets off the machine without a lock. Podman's own network has no IPv6, nor has one that is made without a word of it.
    leaks: frozenset[str]

    @property
    def forwarded(self) -> bool:
        """Whether the machine forwards for it; the others hold an underlay device, or share the machine's network."""
        return not self.leaks & LINK

    def __str__(self) -> str:
        return f"{self.tool} {self.network}"


KINDS = (
    Kind("docker", "bridge", V4 | V6),
    Kind("docker", "user", V4 | V6),
    Kind("docker", "host", V4 | V6 | LINK),
    Kind("docker", "cable", V4 | V6 | LINK),
    Kind("podman", "podman", V4),
    Kind("podman", "user", V4 | V6),
    Kind("podman", "host", V4 | V6 | LINK),
)
LATER = Kind("docker", "later", V4)


def must(machine: Machine, *argv: str) -> str:
    done = machine.run(*argv)
    assert done.ok, f"{argv}: {done.complaint}"
    return done.out


def prepare(machine: Machine, mode: str) -> None:
    """Boot with both tools, an image of each and their networks; nobody but containers makes noise."""
    machine.systemctl_offline("disable", "noise")
    machine.systemctl_offline("enable", "docker")
    machine.write("/etc/docker/daemon.json", json.dumps(_DAEMON))
    machine.write("/etc/containers/storage.conf", _STORAGE)
    machine.write("/etc/containers/containers.conf", _PODMAN)
    machine.write("/etc/failshut/failshut.toml", POLICY + f'\n[forward]\nmode = "{mode}"\n')
    machine.boot()
    must(machine, "mkdir", "-p", _COUNTS)
    must(machine, "sh", "-c", _NETWORKS)


def start(machine: Machine, kind: Kind, name: str, *command: str) -> None:
    """Start a container that runs a command, with the capability that its noise needs."""
    must(
        machine,
        *(kind.tool, "run", "--detach", f"--name={name}", f"--network={kind.network}", "--cap-add=NET_RAW", "--stop-signal=KILL"),
        *(*_SHARED, f"--volume={_COUNTS}:/run", "empty", *command),
    )


def listen(machine: Machine, kinds: tuple[Kind, ...], when: str) -> None:
    """Hear each kind's noise for a while, in a phase of its own."""
    wire = machine.router.wire
    for kind in kinds:
        with wire.phase(f"{when}: {kind}"):
            must(machine, "rm", "-f", f"{_COUNTS}/failshut-noise")
            began = wire.elapsed
            start(machine, kind, "noise", *_NOISE)
            hear(machine, kind)
            if when == CONTROL:
                # A new container's first question for a neighbour may be lost, and is asked again after a second.
                until(lambda kind=kind, began=began: all(wire.saw(each, began) for each in kind.leaks), within=30)
            must(machine, kind.tool, "rm", "--force", "noise")


def hear(machine: Machine, kind: Kind) -> None:
    """Wait until the container has tried every kind some more; a new one's IPv6 address may take a second.

    Of one that is forwarded for, what has come to the machine counts: its own kernel takes what waits for a neighbour, too.
    """
    count = f"awk '$1 == \"tcp\" {{ print ${3 if kind.forwarded else 2} }}' {_COUNTS}/failshut-noise"
    if kind.forwarded and kind.leaks & V6:
        count = _IPV6_FROM_BRIDGES
    assert machine.eventually("sh", "-c", _SETTLED, within=30), "an address stays tentative"
    before = int(machine.run("sh", "-c", count).out or 0)
    assert machine.eventually("sh", "-c", f'[ "$({count})" -gt {before + 20} ]', within=30), f"{kind} does not send"


def reaches(machine: Machine, kind: Kind, address: str) -> bool:
    """Whether a container of this kind gets a connection to a service."""
    argv = (kind.tool, "run", "--rm", f"--network={kind.network}", *_SHARED, "empty")
    return machine.run(*argv, "python3", "-c", _CONNECT, address, str(SERVICE_PORT)).ok


def address_of(machine: Machine, kind: Kind, name: str) -> str:
    """Return a container's address, once its service answers the machine."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = must(machine, kind.tool, "inspect", f"--format={form}", name).strip()
    assert machine.eventually("python3", "-c", _CONNECT, address, str(SERVICE_PORT)), "the machine does not reach the container"
    return address


def tunnelled(machine: Machine) -> frozenset[str]:
    """Return the kinds of noise that came out of the tunnel, all of it from the tunnel's addresses."""
    kinds = {target: kind for kind, target in noise.TARGETS.items()}
    pairs = [(source, kinds[target]) for source, target in out_of_the_tunnel(machine.router.namespace.do) if target in kinds]
    assert {source for source, _ in pairs} <= {"10.99.0.2", "fd99::2"}
    return frozenset(kind for _, kind in pairs) - {"raw"}


def up(machine: Machine) -> dict[Kind, frozenset[str]]:
    """Hear each kind with the tunnel up; return what came out of it."""
    arrived = {}
    for kind in KINDS:
        watch_tunnel(machine.router.namespace.do, SERVER_DEVICE)
        listen(machine, (kind,), "up")
        arrived[kind] = tunnelled(machine)
    return arrived


def fall(machine: Machine) -> None:
    """Have the tunnel fall under a container's running connections."""
    kind = KINDS[1]
    start(machine, kind, "flow", *_NOISE)
    hear(machine, kind)
    must(machine, "systemctl", "stop", "wg-quick@wg0")
    hear(machine, kind)
    must(machine, "docker", "rm", "--force", "flow")


@pytest.mark.scenario(95, 107, 112, 113)
@pytest.mark.parametrize("mode", [pytest.param("block", marks=thorough), "tunnel"])
def test_containers_leave_by_the_tunnel_or_not_at_all(machine, mode):
    """On each network of each tool, with the tunnel up and down, after dockerd's restart and on a network that came later."""
    phase = machine.router.wire.phase
    with phase(UNARMED):
        prepare(machine, mode)
        must(machine, "systemctl", "stop", "wg-quick@wg0")
    listen(machine, KINDS, CONTROL)
    with phase(UNARMED):
        must(machine, "systemctl", "start", "wg-quick@wg0")
        must(machine, "failshut", "arm")
    arrived = up(machine)
    with phase("the tunnel falls"):
        fall(machine)
    listen(machine, KINDS, "down")
    with phase("dockerd restarted"):
        must(machine, "systemctl", "restart", "docker")
        must(machine, "docker", "network", "create", "later")
    listen(machine, (KINDS[0], LATER), "later")
    with phase("power-off"):
        assert_armed(machine)
        machine.power_off()
    report = machine.router.wire.stop(machine.router.case)

    assert {each.partition(": ")[0] for each in report.by_phase} <= {CONTROL, UNARMED}, report
    for kind in KINDS:
        assert set(report.by_phase[f"{CONTROL}: {kind}"]) >= kind.leaks, f"the control: {kind}\n{report}"
        # What shares the machine's network uses the tunnel as the machine does; a container on the cable has no way to it.
        uses_it = kind.network == "host" or (kind.forwarded and mode == "tunnel")
        assert arrived[kind] == (kind.leaks - LINK if uses_it else frozenset()), kind


@pytest.mark.scenario(95)
def test_containers_reach_the_machine_and_each_other(machine):
    """On one network, and the machine reaches them, also after dockerd's restart; Docker's own rules decide between networks."""
    prepare(machine, "block")
    must(machine, "failshut", "arm")
    for kind in (KINDS[0], KINDS[4]):
        must(machine, "systemctl", "restart", "docker")
        start(machine, kind, "service", "python3", "-c", _SERVE)
        address = address_of(machine, kind, "service")
        assert reaches(machine, kind, address)
        machine.write("/usr/local/lib/serve.py", _SERVE)
        must(machine, "systemd-run", "--collect", "--unit=serve", "python3", "/usr/local/lib/serve.py")
        gateway = f"{address.rpartition('.')[0]}.1"
        assert machine.eventually("python3", "-c", _CONNECT, gateway, str(SERVICE_PORT))
        assert reaches(machine, kind, gateway)
        must(machine, "systemctl", "stop", "serve")
        must(machine, kind.tool, "rm", "--force", "service")

"""Each template in a lab: its server made by the command, its client armed by its own policy, and packets through both."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amount import THOROUGHLY, amount
from failshut.drill.choices import DEFAULT_WORKERS
from failshut.drill.judgement.outcome import Status
from failshut.drill.network.wait import until
from failshut.drill.pool import drill, preflight, rehearse
from failshut.drill.scenarios import SCENARIOS
from failshut.drill.workers.process import CannotDrillError
from failshut.host.network.probe import probe
from failshut.host.sources import load_policy
from failshut.templates.catalogue import templates
from needed import needs
from templates.test_templates import new, options
from two_sites import FETCH, HOME4, METADATA, SITE4, SITE6, VPS4, VPS6, Machine, TwoSites, url, web

pytestmark = pytest.mark.lab
_log = logging.getLogger(__name__)

# Behind the server; a second exit; beside the first site.
OFFICE, EXIT4, EXIT6, OTHER4 = "192.168.9.9", "192.0.2.20", "2001:db8:20::20", "198.51.100.81"
DESK = "192.168.20.7"
# An attack by a lost tunnel, and one by names; both are seen to leak without the lock. FAILSHUT_THOROUGH=1 runs the whole drill.
SAMPLE = ("guide-1", "dns-public")
_ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(10)
asking.sendto(b"name?", (sys.argv[1], 53))
print(asking.recv(99).decode())
"""
# A page as one of several addresses; nothing where it can't be had.
_CALL = """
import http.client, sys
calling = http.client.HTTPConnection(sys.argv[1], timeout=3, source_address=(sys.argv[2], 0))
try:
    calling.request("GET", "/")
    print(calling.getresponse().read().decode(), end="")
except OSError:
    pass
"""
_ANSWER = """
import socket
answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answering.bind(("", 53))
print("listening", flush=True)
while True:
    answering.sendto(b"filtered", answering.recvfrom(99)[1])
"""


@pytest.fixture
def lab():
    """A client, a VPS and the Internet between them."""
    needs("nft", "wg", "wg-quick", "ip", "ss", "unshare", "nsenter")
    with TwoSites() as it:
        it.answer_for(OFFICE, OTHER4)
        yield it


def made_of(name: str, directory: Path, **more: str) -> Path:
    """Make a template's files. No DNS: there is no resolvconf here."""
    done = new(name, directory / "made", *options(name, **({"dns": "", "peers": "laptop"} | more)))
    assert done.exit_code == 0, done.output
    return directory / "made"


def serve(machine: Machine, tree: Path) -> None:
    """Make a machine the server of a template by the command that the template names."""
    machine.must("cp", "-r", str(tree / "etc"), "/")
    machine.ok("server", "init", "--no-ssh")


@contextmanager
def locked(lab: TwoSites, tree: Path, *tunnels: str, page: str = url(SITE4)) -> Iterator[Machine]:
    """Bring a client's tunnel up and arm it by its policy; at the end, the tunnel gone, nothing leaves that left before."""
    client = lab.client
    client.must("cp", "-r", str(tree / "etc"), "/")
    # wg-quick would ask resolvconf.
    client.must("sed", "-i", "/^DNS = /d", "/etc/wireguard/wg0.conf")
    lab.watch("home")
    assert client.fetch(page) == HOME4
    control = lab.seen()
    for tunnel in tunnels:
        client.must("wg-quick", "up", tunnel)
    client.ok("arm")
    yield client
    for tunnel in reversed(tunnels):
        client.must("wg-quick", "down", tunnel)
    lab.watch("home")
    assert client.fetch(page, 3) == ""
    assert [each for each in control if each.port == 80], "the control saw nothing leave"
    assert [each for each in lab.seen() if each.protocol == "tcp"] == []


def fetched(machine: Machine, page: str, wanted: str) -> bool:
    """Whether a page comes in time, as seen from there."""
    return until(lambda: machine.fetch(page) == wanted, within=30, step=0.2)


@pytest.mark.parametrize("name", ["road-warrior", "travel", "vps-server"])
def test_everything_leaves_by_the_server(name, lab, tmp_path):
    """The site sees the server; the network around the server, where the template names none, is refused."""
    made = made_of(name, tmp_path, **({"home": f"{OFFICE}/32"} if name == "road-warrior" else {}))
    serve(lab.vps, made / "server")

    with locked(lab, made / "laptop", "wg0") as client:
        assert fetched(client, url(SITE4), VPS4)
        assert client.fetch(url(SITE6)) == VPS6
        assert client.fetch(url(METADATA), 5) == ""
        assert client.fetch(url(OFFICE), 5) == (VPS4 if name == "road-warrior" else "")


def test_what_a_split_tunnel_names_leaves_beside_it(lab, tmp_path):
    """One site sees the client itself, its neighbour the server."""
    made = made_of("split-tunnel", tmp_path, outside=f"{OTHER4}/32")
    serve(lab.vps, made / "server")

    with locked(lab, made / "laptop", "wg0") as client:
        assert fetched(client, url(SITE4), VPS4)
        assert client.fetch(url(OTHER4)) == HOME4


def test_remote_access_reaches_the_network_and_nothing_else(lab, tmp_path):
    """Neither beside the tunnel nor through it."""
    made = made_of("lan-access", tmp_path, peers="workstation")
    serve(lab.vps, made / "server")

    with locked(lab, made / "workstation", "wg0") as client:
        assert fetched(client, url(OFFICE), VPS4)
        assert client.fetch(url(SITE4), 3) == ""


def test_the_filter_at_home_is_asked_through_the_tunnel(lab, tmp_path):
    """On the server itself, at its address in the tunnel, and by peers alone."""
    made = made_of("dns-filter", tmp_path)
    serve(lab.vps, made / "server")
    assert lab.vps.start("python3", "-c", _ANSWER).stdout.readline() == "listening\n"

    with locked(lab, made / "laptop", "wg0") as client:
        assert until(lambda: client.run("python3", "-c", _ASK, "10.86.0.1").stdout == "filtered\n", within=30, step=0.2)
        assert client.fetch(url(SITE4)) == VPS4
    assert "nothing" in lab.router("sh", "-c", f"python3 -c '{_ASK}' {VPS4} 2>/dev/null || echo nothing")


def test_a_double_hop_leaves_by_its_second_server(lab, tmp_path):
    """The site sees the exit; on the way to the exit only the entry was seen."""
    made = made_of("double-hop", tmp_path, **{"exit-endpoint": EXIT4})
    with Machine() as last:
        lab.plug(last, "far", EXIT4, EXIT6)
        serve(lab.vps, made / "entry")
        serve(last, made / "exit")
        with locked(lab, made / "laptop", "wg1", "wg0") as client:
            assert fetched(client, url(SITE4), EXIT4)
            talking = last.must("wg", "show", "wg0", "endpoints")
            assert f"{VPS4}:" in talking


def test_a_branch_and_the_office_call_each_other_and_the_branch_leaves_by_it(lab, tmp_path):
    """A machine behind each; nobody else calls the branch's, and with the tunnel down it reaches nothing."""
    made = made_of("site-to-site", tmp_path)
    serve(lab.vps, made / "office")
    gateway = lab.client
    for line in (
        "ip netns add desk",
        "ip link add eth1 type veth peer name eth0 netns desk",
        "ip addr add 192.168.20.1/24 dev eth1",
        "ip link set eth1 up",
        f"ip -n desk addr add {DESK}/24 dev eth0",
        "ip -n desk link set eth0 up",
        "ip -n desk route add default via 192.168.20.1",
        "sysctl -q -w net.ipv4.ip_forward=1",
    ):
        gateway.must(*line.split())

    def desk(page: str, seconds: float = 10) -> str:
        return gateway.run("ip", "netns", "exec", "desk", "python3", "-c", FETCH, page, str(seconds)).stdout

    gateway.start("ip", "netns", "exec", "desk", *web()).stdout.readline()
    # The office's own gateway knows where the branch is.
    lab.router(*f"ip route add 192.168.20.0/24 via {VPS4}".split())

    def called_from(source: str) -> str:
        return lab.router("python3", "-c", _CALL, DESK, source)

    with locked(lab, made / "branch", "wg0"):
        assert until(lambda: desk(url(OFFICE)) == DESK, within=30, step=0.2)
        assert desk(url(SITE4)) == VPS4
        assert called_from(OFFICE) == OFFICE
        assert called_from(SITE4) == "", "it is of neither network"
    lab.watch("home")
    assert desk(url(SITE4), 3) == desk(url(OFFICE), 3) == called_from(OFFICE) == ""
    assert [each for each in lab.seen() if each.protocol == "tcp"] == []


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", templates())
def test_the_policy_holds_in_the_drill(name, tmp_path):
    """A few attacks, or all of them, each with its control."""
    try:
        preflight(real_root=True)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    made = made_of(name, tmp_path, peers="laptop")
    policy = load_policy(str(next(made.rglob("failshut.toml")))).policy
    chosen = [each for each in SCENARIOS.values() if THOROUGHLY or each.name in SAMPLE]

    # A worker is longer in starting than in two runs.
    outcomes = drill(
        rehearse(policy, probe(policy)),
        chosen,
        lambda outcome: _log.info("%s: %s", outcome.scenario.name, outcome.word),
        workers=amount(usually=1, thoroughly=DEFAULT_WORKERS),
    )

    assert [(each.scenario.name, each.status, each.reason) for each in outcomes if each.status.is_failure] == []
    held = {each.scenario.name for each in outcomes if each.status is Status.HELD}
    assert held >= set(SAMPLE)
    _log.info("%s: %d of %d held or work", name, len(held), len(chosen))

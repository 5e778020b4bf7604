"""Several tunnels, a tunnel inside a tunnel, and prefixes outside: the compiled routing under the real wg-quick."""

from __future__ import annotations

import os
import shutil
import time
from ipaddress import ip_address, ip_network
from typing import Self

import pytest

from connected import INNER, SERVER, SINK_PORT, Connected
from failshut.boot.artefacts import router
from failshut.emit.routing import emit_routes, emit_rules
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.policy import Outside, Policy, Tunnel
from failshut.model.routing import IpVersion
from failshut.model.units import Endpoint, InterfaceName, Mark, Port

pytestmark = pytest.mark.lab

FAR = "198.51.100.7"
# The second tunnel's server, behind the first tunnel.
SECOND = "10.88.0.1"
OUTER_MARK, INNER_MARK = 0xCA6C, 0xCA6D
OUTER = Tunnel(InterfaceName("wg0"), (Endpoint(ip_address(SERVER), Port(51820)),), Mark(OUTER_MARK))
HOP = Tunnel(InterfaceName("wg2"), (Endpoint(ip_address(INNER), Port(51821)),), Mark(INNER_MARK), through=OUTER.interface)
BESIDE = Tunnel(HOP.interface, HOP.endpoints, HOP.fwmark)
_DIRECTORY = "/run/routing"


class TwoTunnels(Connected):
    """A machine with a tunnel, and a second one whose server is reached by the first."""

    def __enter__(self) -> Self:
        super().__enter__()
        # Said, because wg-quick would take it from the way to the endpoint, which may be the other tunnel.
        self.adopt_tunnel(more="MTU = 1420\n")
        self._serve_second()
        self.must("wg-quick", "up", "wg2")
        self.write("/etc/failshut/route", router().text)
        return self

    def _serve_second(self) -> None:
        ours, theirs = (self.must("wg", "genkey").strip() for _ in range(2))
        self.server("sh", "-c", "ip link add second type wireguard 2>/dev/null || wireguard-go second")
        self.server(
            *("wg", "set", "second", "listen-port", "51821", "private-key", "/dev/stdin"),
            *("peer", self.must("wg", "pubkey", stdin=ours).strip(), "allowed-ips", "10.88.0.2/32"),
            stdin=theirs,
        )
        for line in (f"addr add {SECOND}/32 dev second", "link set second up", "route add 10.88.0.2 dev second"):
            self.server("ip", *line.split())
        self.write(
            "/etc/wireguard/wg2.conf",
            f"[Interface]\nPrivateKey = {ours}\nAddress = 10.88.0.2/32\nFwMark = {INNER_MARK:#x}\nMTU = 1340\n"
            f"[Peer]\nPublicKey = {self.must('wg', 'pubkey', stdin=theirs).strip()}\nEndpoint = {INNER}:51821\n"
            "AllowedIPs = 0.0.0.0/0, ::/0\n",
        )

    def put(self, policy: Policy) -> None:
        """Put a policy's routing on, as the loader does."""
        routing = lower_routing(policy, HostFacts())
        for version in IpVersion:
            self.write(f"{_DIRECTORY}/routing{version}", emit_rules(routing.of(version)))
            self.write(f"{_DIRECTORY}/outside{version}", emit_routes(routing.of(version)))
        self.route("apply", _DIRECTORY)

    def route(self, *words: str) -> None:
        """Run the routing script, which must have nothing to complain of."""
        done = self.run("sh", "/etc/failshut/route", *words)
        assert (done.returncode, done.stderr) == (0, "")

    def way(self, destination: str, *more: str) -> str:
        """Return the device by which the kernel would send to a destination; empty when there is none."""
        words = self.run("ip", "route", "get", destination, *more).stdout.split()
        return words[words.index("dev") + 1] if "dev" in words else ""

    def cycle(self, tunnel: str) -> None:
        """Take a tunnel down and up again, by wg-quick."""
        self.must("wg-quick", "down", tunnel)
        self.must("wg-quick", "up", tunnel)

    def connects(self, address: str) -> bool:
        """Whether a connection to the sink at this address comes about."""
        script = f"import socket; socket.create_connection(({address!r}, {SINK_PORT}), 5)"
        return self.run("python3", "-c", script).returncode == 0

    def hops(self) -> tuple[str, str, str]:
        """Return the ways of a program's packet, of the inner tunnel's own, and of the outer tunnel's own."""
        return self.way(FAR), self.way(INNER, "mark", str(INNER_MARK)), self.way(SERVER, "mark", str(OUTER_MARK))


@pytest.fixture
def machine():
    """Two tunnels that are up; no routing of ours."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network and mount namespaces")
    for program in ("wg", "wg-quick", "ip", "unshare", "nsenter"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}: run `make setup`")
    with TwoTunnels() as both:
        yield both


def test_a_double_hop_takes_both_hops_whichever_tunnel_was_restarted(machine):
    """A program's packet goes into the inner tunnel, the inner's own into the outer, the outer's own onto the underlay.

    With stock rules the tunnel that came last takes everything: after a restart of the outer one, programs use a single hop.
    """
    machine.cycle("wg0")
    assert machine.way(FAR) == "wg0", "the control: stock rules, and one hop"

    machine.put(Policy((HOP, OUTER)))
    assert machine.hops() == ("wg2", "wg0", "eth0")
    assert machine.connects(SECOND)

    machine.cycle("wg0")
    assert machine.hops() == ("wg2", "wg0", "eth0")
    machine.cycle("wg2")
    machine.route("keep", _DIRECTORY)
    assert machine.hops() == ("wg2", "wg0", "eth0")
    machine.cycle("wg0")
    machine.cycle("wg2")
    machine.route("keep", _DIRECTORY)
    assert machine.hops() == ("wg2", "wg0", "eth0")
    assert machine.connects(SECOND)


def test_nothing_takes_a_single_hop_while_the_inner_tunnel_is_down(machine):
    """The outer tunnel carries the inner one's packets and nothing else; programs are told at once that there is no way."""
    machine.put(Policy((HOP, OUTER)))
    machine.must("wg-quick", "down", "wg2")

    assert machine.way(FAR) == ""

    machine.route("clear")
    assert machine.way(FAR) == "wg0", "the control"


def test_a_route_by_the_outer_tunnel_draws_nothing_into_it(machine):
    """AllowedIPs that are less than everything become routes in the main table, over a device that programs may not use."""
    machine.must("ip", "route", "add", "198.51.100.0/24", "dev", "wg0")
    assert machine.way(FAR) == "wg0", "the control"

    machine.put(Policy((HOP, OUTER)))

    assert machine.way(FAR) == "wg2"


def test_of_two_tunnels_side_by_side_the_first_of_the_policy_takes_what_both_would(machine):
    """Whatever wg-quick last did; and each one's own packets leave by the underlay."""
    for order, first in (((OUTER, BESIDE), "wg0"), ((BESIDE, OUTER), "wg2")):
        machine.put(Policy(order))
        assert machine.hops() == (first, "eth0", "eth0")
        for tunnel in ("wg2", "wg0"):
            machine.cycle(tunnel)
            machine.route("apply", _DIRECTORY)
            assert machine.hops() == (first, "eth0", "eth0")


def test_prefixes_outside_leave_by_the_underlay_with_its_address_and_survive_wg_quick(machine):
    """Every one of 100,000 prefixes has its way outside, what lies between them takes the tunnel; clearing leaves none."""
    many = tuple(ip_network((0x0B000000 + number * 512, 24)) for number in range(100_000))
    machine.must("wg-quick", "down", "wg2")
    assert machine.way("11.0.0.1") == "wg0", "the control: without the routes"
    begun = time.monotonic()

    machine.put(Policy((OUTER,), outside=Outside((*many, ip_network("2001:db8:7::/48")))))

    print(f"100,000 prefixes took {time.monotonic() - begun:.2f} s")  # noqa: T201 - a measure, not a claim
    for _ in range(2):
        assert [machine.way(each) for each in ("11.0.0.1", "11.0.1.1", str(many[-1][1]))] == ["eth0", "wg0", "eth0"]
        assert "src 192.168.50.2" in machine.must("ip", "route", "get", "11.0.0.1")
        assert (machine.way("2001:db8:7::1"), machine.way("2001:db8:8::1")) == ("eth0", "wg0")
        machine.cycle("wg0")
    machine.route("keep", _DIRECTORY)
    machine.route("clear")
    assert machine.must("ip", "route", "show", "table", "all", "proto", "245") == ""
    assert machine.way("11.0.0.1") == "wg0"

"""A machine with two tunnels, one inside the other."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Self

from connected import INNER, SERVER, SINK_PORT, Connected
from failshut.boot.artefacts import router
from failshut.emit.routing import emit_routes, emit_rules
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.policy import Policy, Tunnel
from failshut.model.routing import IpVersion
from failshut.model.units import Endpoint, InterfaceName, Mark, Port

FAR = "198.51.100.7"
# The second tunnel's server, behind the first tunnel.
SECOND = "10.88.0.1"
OUTER_MARK, INNER_MARK = 0xCA6C, 0xCA6D
OUTER = Tunnel(InterfaceName("wg0"), (Endpoint(ip_address(SERVER), Port(51820)),), Mark(OUTER_MARK))
HOP = Tunnel(InterfaceName("wg2"), (Endpoint(ip_address(INNER), Port(51821)),), Mark(INNER_MARK), through=OUTER.interface)
BESIDE = Tunnel(HOP.interface, HOP.endpoints, HOP.fwmark)
ROUTING = "/run/routing"


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
            self.write(f"{ROUTING}/routing{version}", emit_rules(routing.of(version)))
            self.write(f"{ROUTING}/outside{version}", emit_routes(routing.of(version)))
        self.route("apply", ROUTING)

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

"""The lab's OpenVPN, for a policy whose tunnel is one: the real program at both ends, with certificates of this lab only."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from pathlib import Path

from failshut.drill.network.netns import Namespace, SetUpError
from failshut.drill.network.pki import Authority, Identity, fresh_authority, inline
from failshut.drill.network.plan import Plan
from failshut.drill.network.topology import Hosts
from failshut.drill.network.wait import until
from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from failshut.model.units import Endpoint, Protocol

PROGRAMS = ("openvpn", "openssl")
SERVER_DEVICE = "drillvpn"
CONFIGS = Path("/run/failshut-drill")
# What OpenVPN takes for IPv6 in a tunnel at most is a /64; a /24 gives IPv4 a neighbour for the server.
_WIDTH4, _WIDTH6 = 24, 64
# In seconds: until a daemon has started or ended; until a client has connected, where its server answers.
_QUICKLY, _CONNECTS = 20.0, 8.0
# What OpenVPN says when it has set the addresses and the routes.
_IS_UP = "Initialization Sequence Completed"


@dataclass(slots=True)
class OpenVpnTunnel:
    """The client's tunnel and its server: to the lab what `LabTunnel` is for WireGuard."""

    plan: Plan
    hosts: Hosts
    authority: Authority
    endpoint: Endpoint

    @property
    def device(self) -> str:
        """The tunnel's interface."""
        return str(self.plan.tunnel.interface)

    @property
    def config(self) -> Path:
        """The client's configuration; /run is a private tmpfs."""
        return CONFIGS / f"{self.device}.ovpn"

    def up(self) -> None:
        """Bring the tunnel up; return when it has its routes, or does not get them for want of its server.

        With the device alone it is too soon: a connection that begins before the routes are there begins in the clear, and stays.
        """
        _start(self.hosts.client, self.config, self._pid_file)
        until(lambda: _IS_UP in _log(self.config), within=_CONNECTS)

    def down(self) -> None:
        """Take the tunnel down as its unit would; return when its device is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as the kernel's memory killer would."""
        self._end(signal.SIGKILL)

    def write(self, endpoint: Endpoint | None = None) -> None:
        """Write the client's configuration."""
        self.endpoint = endpoint or self.endpoint
        family = "6" if self.endpoint.address.version == 6 else "4"
        proto = f"tcp{family}-client" if self.endpoint.protocol is Protocol.TCP else f"udp{family}"
        lines = [
            *("client", f"dev {self.device}", "dev-type tun", f"proto {proto}", "nobind", "connect-retry 1 2", "connect-timeout 3"),
            f"remote {self.endpoint.address} {int(self.endpoint.port)}",
            f"mark {int(self.plan.fwmark)}",
        ]
        _write(self.config, lines, self.authority, self.authority.client)

    def serve(self) -> None:
        """Start the server on the endpoint's port, for every address of its machine."""
        config = CONFIGS / "server.ovpn"
        stream = self.endpoint.protocol is Protocol.TCP
        lines = [
            *("mode server", "tls-server", f"dev {SERVER_DEVICE}", "dev-type tun", "topology subnet", "dh none", "duplicate-cn"),
            *(f"proto {'tcp6-server' if stream else 'udp6'}", f"port {int(self.endpoint.port)}", "keepalive 2 8"),
            *(() if stream else ("multihome",)),
            'push "topology subnet"',
            'push "redirect-gateway def1 ipv6"',
            f"client-config-dir {CONFIGS / 'clients'}",
            *_addresses(self.plan),
        ]
        _write(config, lines, self.authority, self.authority.server)
        clients = CONFIGS / "clients"
        clients.mkdir(exist_ok=True)
        (clients / "DEFAULT").write_text("".join(f"{line}\n" for line in _given(self.plan)))
        _start(self.hosts.server, config, CONFIGS / "server.pid")
        if not until(lambda: self.hosts.server.run("ip", "link", "show", SERVER_DEVICE).ok, within=_QUICKLY):
            raise SetUpError(f"the lab's OpenVPN server does not start:\n{_log(config)}")

    @property
    def _pid_file(self) -> Path:
        return CONFIGS / "client.pid"

    def _end(self, how: signal.Signals) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(self._pid_file.read_text()), how)
        until(lambda: not self.hosts.client.run("ip", "link", "show", self.device).ok, within=_QUICKLY)


def start_openvpn(plan: Plan, hosts: Hosts) -> OpenVpnTunnel:
    """Start the server and write the client's configuration; the tunnel itself is not up yet."""
    CONFIGS.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    tunnel = OpenVpnTunnel(plan, hosts, fresh_authority(), plan.endpoints[0])
    tunnel.write()
    tunnel.serve()
    return tunnel


def _network4(plan: Plan) -> tuple[IPv4Address, IPv4Address, IPv4Network]:
    """Return the client's inner address, the server's, and the network of both."""
    own = plan.tunnel_address(4)
    client = own if isinstance(own, IPv4Address) else IPv4Address("10.99.0.2")
    network = ip_network(f"{client}/{_WIDTH4}", strict=False)
    server = next(each for each in network.hosts() if each != client)
    return client, IPv4Address(server), IPv4Network(network)


def _network6(plan: Plan) -> tuple[IPv6Interface, IPv6Address] | None:
    own = plan.tunnel_address(6)
    if not isinstance(own, IPv6Address):
        return None
    client = IPv6Interface((int(own), _WIDTH6))
    network: IPv6Network = client.network
    server = next(network[number] for number in (1, 2) if network[number] != own)
    return client, server


def _addresses(plan: Plan) -> list[str]:
    """Return the server's lines for its own addresses."""
    _, server, network = _network4(plan)
    lines = [f"ifconfig {server} {network.netmask}", f'push "route-gateway {server}"']
    six = _network6(plan)
    if six:
        lines.append(f"ifconfig-ipv6 {six[1]}/{_WIDTH6} {six[0].ip}")
    return lines


def _given(plan: Plan) -> list[str]:
    """Return the server's lines for its client's addresses."""
    client, _, network = _network4(plan)
    six = _network6(plan)
    return [f"ifconfig-push {client} {network.netmask}", *([f"ifconfig-ipv6-push {six[0]} {six[1]}"] if six else [])]


def _write(path: Path, lines: list[str], authority: Authority, who: Identity) -> None:
    path.write_text("".join(f"{line}\n" for line in lines) + inline(authority, who))
    path.chmod(PRIVATE_FILE)


def _start(host: Namespace, config: Path, pid_file: Path) -> None:
    host.do("openvpn", "--config", str(config), "--daemon", "--writepid", str(pid_file), "--log", f"{config}.log")


def _log(config: Path) -> str:
    with contextlib.suppress(OSError):
        return Path(f"{config}.log").read_text(errors="replace")[-2000:]
    return ""

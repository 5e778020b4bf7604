"""The lab's WireGuard: fresh keys, a server on the endpoint's address and port, the client brought up by the real wg-quick."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from failshut.drill.network.netns import Namespace
from failshut.drill.network.outer import OuterTunnel, start_outer
from failshut.drill.network.plan import Plan
from failshut.drill.network.topology import Hosts
from failshut.drill.network.wireguard import CONFIGS, Keys, create_device, fresh_keys
from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from failshut.model.units import Endpoint

SERVER_DEVICE = "drillwg"
# In seconds. A config with an inline lock has hundreds of lines, and bash reads each by patterns.
WG_QUICK = 60.0


@dataclass(slots=True)
class LabTunnel:
    """The client's tunnel and its server."""

    plan: Plan
    hosts: Hosts
    client_keys: Keys
    server_keys: Keys
    endpoint: Endpoint
    # What the client's config has of a lock.
    inline: tuple[str, ...] = ()
    outer: OuterTunnel | None = None

    @property
    def device(self) -> str:
        """The tunnel's interface."""
        return str(self.plan.tunnel.interface)

    @property
    def config(self) -> Path:
        """The client's configuration; /run is a private tmpfs."""
        return CONFIGS / f"{self.device}.conf"

    def up(self) -> None:
        """Bring the tunnel up as the user does, and before it the one that carries it, which stays."""
        with self.outer.beneath() if self.outer else nullcontext():
            self.hosts.client.do("wg-quick", "up", str(self.config), timeout=WG_QUICK)

    def down(self) -> None:
        """Take the tunnel down as the user does."""
        self.hosts.client.do("wg-quick", "down", str(self.config), timeout=WG_QUICK)

    def write(self, endpoint: Endpoint | None = None) -> None:
        """Write the client's configuration."""
        CONFIGS.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        self.endpoint = endpoint or self.endpoint
        addresses = ", ".join(str(each) for each in self.plan.tunnel_addresses)
        self.config.write_text(
            f"[Interface]\nPrivateKey = {self.client_keys.private}\nAddress = {addresses}\nFwMark = {int(self.plan.fwmark):#x}\n"
            + "".join(f"{each}\n" for each in self.inline)
            + f"[Peer]\nPublicKey = {self.server_keys.public}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {self.endpoint}\n"
        )
        self.config.chmod(PRIVATE_FILE)

    def kill(self) -> None:
        """Kill the client's userspace WireGuard, if it has one, as the kernel's memory killer would."""
        for folder in Path("/proc").glob("[0-9]*"):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.exists() else []
            if words[:2] == [b"wireguard-go", self.device.encode()]:
                os.kill(int(folder.name), signal.SIGKILL)


def start_tunnel(plan: Plan, hosts: Hosts, inline: tuple[str, ...] = ()) -> LabTunnel:
    """Start the server and write the client's configuration; the tunnel itself is not up yet."""
    os.environ["LOG_LEVEL"] = "silent"
    tunnel = LabTunnel(plan, hosts, fresh_keys(), fresh_keys(), plan.endpoints[0], inline)
    tunnel.write()
    _start_server(tunnel, hosts.server)
    if plan.outer:
        tunnel.outer = start_outer(plan.outer, plan.endpoints, hosts.client, hosts.server)
    return tunnel


def _start_server(tunnel: LabTunnel, server: Namespace) -> None:
    create_device(server, SERVER_DEVICE)
    addresses = [each.ip for each in tunnel.plan.tunnel_addresses]
    key = CONFIGS / "server.key"
    key.write_text(tunnel.server_keys.private)
    allowed = ",".join(f"{each}/{each.max_prefixlen}" for each in addresses)
    server.do(
        *("wg", "set", SERVER_DEVICE, "listen-port", str(int(tunnel.endpoint.port)), "private-key", str(key)),
        *("peer", tunnel.client_keys.public, "allowed-ips", allowed),
    )
    lines = [f"link set {SERVER_DEVICE} mtu 1420 up", *(f"route add {each} dev {SERVER_DEVICE}" for each in addresses)]
    server.batch("\n".join(lines))

"""The router with an OpenVPN server besides, for a machine whose tunnel is OpenVPN's."""

from __future__ import annotations

from typing import Self

from boot.room import Room
from boot.router import ENDPOINT, Router, received
from failshut.config import policy_file, resolve
from failshut.config.declaration import Sources
from failshut.drill.network.netns import SetUpError
from failshut.drill.network.pki import fresh_authority, inline
from failshut.drill.network.wait import until
from failshut.model.policy import Policy

PORT, DEVICE = 1194, "vpn"
CONFIG = "/etc/openvpn/client/tun0.conf"
VPN_POLICY = f"""\
[tunnel.tun0]
config = "{CONFIG}"

[allow]
dhcp = true
ndp = true
"""
_SERVER = f"""\
dev {DEVICE}
dev-type tun
local {ENDPOINT}
port {PORT}
proto udp
server 10.97.0.0 255.255.255.0
topology subnet
dh none
keepalive 1 5
duplicate-cn
push "redirect-gateway def1"
"""
_CLIENT = f"""\
client
dev tun0
proto udp
remote {ENDPOINT} {PORT}
connect-retry 1 2
connect-timeout 5
"""


class VpnRouter(Router):
    """Up for the block."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._authority = fresh_authority()

    def __enter__(self) -> Self:
        super().__enter__()
        path = "/run/server.ovpn"
        self.room.do("sh", "-c", 'cat > "$1"', "sh", path, stdin=_SERVER + inline(self._authority, self._authority.server))
        self.room.start("openvpn", "--config", path, net=self.namespace, log=self.room.path / "run/openvpn")
        if not until(lambda: self.namespace.run("ip", "link", "show", DEVICE).ok, within=20):
            raise SetUpError((self.room.path / "run/openvpn").read_text())
        return self

    @property
    def vpn_config(self) -> str:
        """The machine's side of the tunnel."""
        return _CLIENT + inline(self._authority, self._authority.client)

    @property
    def policy(self) -> Policy:
        """The policy of the machine, as failshut reads it."""
        declaration = policy_file.parse(VPN_POLICY, "failshut.toml")
        return resolve.resolve(declaration, Sources(files={CONFIG: self.vpn_config.encode()})).policy

    def carried(self) -> int:
        """Return how many packets the OpenVPN server took out of its tunnel."""
        return received(self.namespace, DEVICE)

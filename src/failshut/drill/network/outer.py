"""The outer tunnel of a double hop: it carries what goes to the inner one's server, comes up before it, and stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_network

from failshut.drill.network.netns import Namespace
from failshut.drill.network.wireguard import CONFIGS, create_device, fresh_keys
from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from failshut.model.policy import DEFAULT_FWMARK, Tunnel
from failshut.model.units import Endpoint, Protocol

_SERVER_DEVICE = "drillouter"
# Where the outer server really listens: both servers are one machine, and may have been given the same port.
_PORT = 51899
_REDIRECT = """
table inet outer {{
	chain prerouting {{
		type nat hook prerouting priority dstnat
		{family} daddr {address} udp dport {port} redirect to :{listening}
	}}
}}
"""


@dataclass(slots=True)
class OuterTunnel:
    """The client's side."""

    client: Namespace
    device: str
    mark: int
    is_up: bool = False

    @contextmanager
    def beneath(self) -> Iterator[None]:
        """Bring the inner tunnel up in this block, over this one, which is up and stays up."""
        if self.is_up:
            self._rule("delete")
        else:
            self.client.do("wg-quick", "up", str(CONFIGS / f"{self.device}.conf"))
            self.is_up = True
        yield
        self._rule("add")

    def _rule(self, verb: str) -> None:
        """Send its own packets by the main table, as the lock's routing does: before the inner tunnel's rules, once these stand.

        They would be given the preferences before the lowest that there is, in another order than without any.
        """
        for family in ("-4", "-6"):
            self.client.do("ip", family, "rule", verb, "pref", "100", "fwmark", str(self.mark), "lookup", "main")


def start_outer(tunnel: Tunnel, carried: Iterable[Endpoint], client: Namespace, server: Namespace) -> OuterTunnel:
    """Start the outer server, and write the client's configuration; the tunnel is not up yet."""
    own, theirs = fresh_keys(), fresh_keys()
    endpoint = next(each for each in tunnel.endpoints if each.protocol is Protocol.UDP)
    addresses = tunnel.addresses or (IPv4Interface("10.98.0.2/32"), IPv6Interface("fd98::2/128"))
    mark = int(tunnel.fwmark or DEFAULT_FWMARK)
    CONFIGS.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    config = CONFIGS / f"{tunnel.interface}.conf"
    config.write_text(
        f"[Interface]\nPrivateKey = {own.private}\nAddress = {', '.join(map(str, addresses))}\nFwMark = {mark:#x}\n"
        f"[Peer]\nPublicKey = {theirs.public}\nEndpoint = {endpoint}\n"
        f"AllowedIPs = {', '.join(str(ip_network(each.address)) for each in carried)}\n"
    )
    config.chmod(PRIVATE_FILE)
    _serve(endpoint, theirs.private, own.public, [ip_network(each.ip) for each in addresses], server)
    return OuterTunnel(client, str(tunnel.interface), mark)


def _serve(endpoint: Endpoint, private: str, peer: str, addresses: list[object], server: Namespace) -> None:
    create_device(server, _SERVER_DEVICE)
    key = CONFIGS / "outer.key"
    key.write_text(private)
    allowed = ",".join(map(str, addresses))
    server.do(
        *("wg", "set", _SERVER_DEVICE, "listen-port", str(_PORT), "private-key", str(key)),
        *("peer", peer, "allowed-ips", allowed),
    )
    routes = (f"route add {each} dev {_SERVER_DEVICE}" for each in addresses)
    server.batch("\n".join((f"link set {_SERVER_DEVICE} mtu 1420 up", *routes)))
    family = "ip" if endpoint.address.version == 4 else "ip6"
    rules = CONFIGS / "outer.nft"
    rules.write_text(_REDIRECT.format(family=family, address=endpoint.address, port=int(endpoint.port), listening=_PORT))
    server.do("nft", "-f", str(rules))

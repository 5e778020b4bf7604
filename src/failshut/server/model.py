"""What a server is: everything that its config says, and what its firewall needs to know of the machine. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from failshut.model.policy import Service
from failshut.model.units import Address, Endpoint, InterfaceAddress, InterfaceName, NamedEndpoint, Port, Prefix
from failshut.templates.make import GATEWAY, host


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of the config. `name` is empty for one that somebody wrote by hand; `line` is its [Peer]'s, from 1."""

    name: str
    public: str
    allowed: tuple[Prefix, ...] = ()
    preshared: str = field(default="", repr=False)
    line: int = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its own addresses in the tunnel."""
        return tuple(each.network_address for each in self.allowed if each.prefixlen == each.max_prefixlen)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config says in its lines for failshut.

    Peers reach the Internet (`internet`), of private networks those in `reach`, of this machine the services in `serve`, and each
    other only with `talk`. From outside `opened` are reached, and SSH on the ports `ssh`; nothing else but the tunnel's own port.
    `ssh` is empty when there is no SSH server, and None where nobody has said or looked yet: a config that a template made.
    `sites` are networks behind peers, which those of `reach` may call in turn.
    `others`: the IP versions of which what is forwarded between other interfaces (containers) is left to whoever forwards it, not
    dropped.
    """

    endpoint: Endpoint | NamedEndpoint
    dns: tuple[Address, ...] = ()
    ssh: tuple[Port, ...] | None = None
    opened: tuple[Service, ...] = ()
    reach: tuple[Prefix, ...] = ()
    sites: tuple[Prefix, ...] = ()
    serve: tuple[Service, ...] = ()
    talk: bool = False
    internet: bool = True
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A server's config, read."""

    interface: InterfaceName
    addresses: tuple[InterfaceAddress, ...]
    port: Port
    private: str = field(repr=False)
    settings: Settings
    peers: tuple[Peer, ...] = ()

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that peers have addresses of."""
        return tuple(each.network for each in self.addresses)

    def peer(self, name: str) -> Peer | None:
        """Return the peer of that name, whatever its case: two files `Anna.conf` and `anna.conf` would be one on some disks."""
        return next((each for each in self.peers if each.name and each.name.lower() == name.lower()), None)

    def free_number(self) -> int | None:
        """Return the lowest number whose addresses nobody has, in every network; None when there is none."""
        taken = [each for peer in self.peers for each in peer.allowed]
        own = {each.ip for each in self.addresses}
        for number, addresses in self._numbered():
            if not own & set(addresses) and not any(address in prefix for address in addresses for prefix in taken):
                return number
        return None

    def addresses_of(self, number: int) -> tuple[Address, ...]:
        """Return the addresses of a number."""
        return tuple(host(each, number) for each in self.networks)

    def _numbered(self) -> Iterator[tuple[int, tuple[Address, ...]]]:
        number = GATEWAY
        while True:
            number += 1
            try:
                yield number, self.addresses_of(number)
            except ValueError:
                return

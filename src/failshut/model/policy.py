"""What the user wants: the policy, checked and resolved, with every name turned into an address.

Built by `config` from failshut.toml and the tunnels' own files; read by `lower`, `drill` and the CLI. Field by field it is the
policy file of docs/reference/policy.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address

from failshut.model.backend import BackendName
from failshut.model.pin import Pin
from failshut.model.units import (
    Address,
    Endpoint,
    InterfaceAddress,
    InterfaceName,
    Listen,
    Mark,
    NamedEndpoint,
    Port,
    Prefix,
    Protocol,
)

# What wg-quick(8) takes for its routing table and fwmark when the config sets none: 51820.
DEFAULT_FWMARK = Mark(0xCA6C)
# tailscaled's interface, unless it was told another.
TAILSCALE_INTERFACE = InterfaceName("tailscale0")
TAILSCALED_PORT, HTTPS = Port(41641), Port(443)


class ForwardMode(StrEnum):
    """What routed clients, containers and virtual machines may do."""

    BLOCK = "block"
    TUNNEL = "tunnel"


class MulticastName(StrEnum):
    """A protocol by which hosts of a link find each other's names and services."""

    MDNS = "mdns"
    LLMNR = "llmnr"
    SSDP = "ssdp"


class BlockedLog(StrEnum):
    """How what is refused is made visible, beside the kernel's counted set that is always there."""

    COUNT = "count"
    NFLOG = "nflog"
    KERNEL = "kernel"


class TunnelKind(StrEnum):
    """Whose config a tunnel has: what brings it up, what carries its mark, who sends its packets (docs/reference/tunnels.md)."""

    # wg-quick's, and what `wg setconf` takes; also a tunnel of which no config is known.
    WG_QUICK = "wg-quick"
    NETWORKD = "systemd-networkd"
    NETWORK_MANAGER = "NetworkManager"
    OPENVPN = "OpenVPN"

    @property
    def is_kernels(self) -> bool:
        """Whether its manager knows the kernel's WireGuard only."""
        return self in (TunnelKind.NETWORKD, TunnelKind.NETWORK_MANAGER)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A VPN interface and how its transport is recognised.

    `fwmark` is None when neither the policy nor the tunnel's config says one: the lock then uses `default_mark` and arming
    makes the tunnel carry it. `addresses` are the tunnel's own, refused on every other interface (CVE-2019-14899).
    """

    interface: InterfaceName
    endpoints: tuple[Endpoint, ...]
    fwmark: Mark | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    config: str | None = None
    # True when the config itself sets the mark, so that a restart of the tunnel brings it back.
    fwmark_in_config: bool = False
    # Names in the config's endpoints, with what they were pinned to: the lock refuses the lookup that its program would make.
    named_endpoints: tuple[str, ...] = ()
    # The mark when `fwmark` is None and the tunnel does not run with another: no other tunnel's.
    default_mark: Mark = DEFAULT_FWMARK
    # Double hop: the transport of this tunnel may leave by that one alone, and nothing else may use that one.
    through: InterfaceName | None = None
    # Those of the endpoints that were written by name, wherever that was: `failshut refresh` asks for their addresses again.
    names: tuple[NamedEndpoint, ...] = ()
    kind: TunnelKind = TunnelKind.WG_QUICK
    # The uids of the sockets that a program sends the transport from: OpenVPN's first one is root's, later ones its `user`'s.
    owners: tuple[int, ...] = (0,)
    # The number of the tunnel's routing table where it is not the mark's.
    table: int | None = None

    @property
    def is_routed(self) -> bool:
        """Whether its device is known to be no Ethernet device: WireGuard's, OpenVPN's tun. Without a config nobody knows."""
        return self.config is not None and (self.kind is not TunnelKind.OPENVPN or self.interface.startswith("tun"))


@dataclass(frozen=True, slots=True)
class Service:
    """A port, or a range of them with both ends, of one protocol: `tcp/631`, `udp/60000-61000`."""

    protocol: Protocol
    low: Port
    high: Port

    def __str__(self) -> str:
        ports = f"{int(self.low)}" if self.low == self.high else f"{int(self.low)}-{int(self.high)}"
        return f"{self.protocol}/{ports}"


@dataclass(frozen=True, slots=True)
class Lan:
    """The local network. `prefixes` lie on the link: what goes there leaves with a hop limit of 1; `routed` lie behind a router.

    DNS and DoT to them stay refused unless `dns`; names by multicast unless listed. Without `services`, every port.
    """

    prefixes: tuple[Prefix, ...] = ()
    # Shell-style patterns as nft takes them: a trailing '*' is a prefix match. Empty: any underlay.
    interfaces: tuple[str, ...] = ()
    dns: bool = False
    multicast: tuple[MulticastName, ...] = ()
    services: tuple[Service, ...] = ()
    routed: tuple[Prefix, ...] = ()
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Inbound:
    """A service on this machine that others may open connections to; replies only, by the interface they came in on."""

    name: str
    protocol: Protocol
    port: Port
    sources: tuple[Prefix, ...] = ()
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Outbound:
    """A pinned exception: these addresses, this protocol and port.

    When `uid` is set, only that user; when `cgroup` is set, only programs of that control group, a path from the root of
    cgroup v2.
    """

    name: str
    protocol: Protocol
    to: tuple[Prefix, ...]
    port: Port
    uid: int | None = None
    cgroup: str | None = None
    on_demand: bool = False


# The slice of the one throw-away browser that signs in at a captive portal.
PORTAL_SLICE = "failshut-portal.slice"


def slice_path(unit: str) -> str:
    """Return the path of a slice's control group from the root of cgroup v2 (systemd.slice(5))."""
    words = unit.removesuffix(".slice").split("-")
    return "/".join(f"{'-'.join(words[: index + 1])}.slice" for index in range(len(words)))


@dataclass(frozen=True, slots=True)
class Outside:
    """Split tunnel: `prefixes` are reached beside the tunnel, and so is everything from programs of `slice`.

    `dns` are the resolvers that such a program may ask on the underlay; without one its lookups go through the tunnel.
    """

    prefixes: tuple[Prefix, ...] = ()
    dns: tuple[Address, ...] = ()
    slice: str = "failshut-outside.slice"

    @property
    def cgroup(self) -> str:
        """The slice's control group: `a-b.slice` lies in `a.slice` (systemd.slice(5))."""
        return slice_path(self.slice)


# The bridges that Docker, Podman, libvirt, LXC, LXD and Incus make. Only those without a port to the outside count.
LOCAL_BRIDGES = ("docker0", "br-*", "podman*", "cni-podman*", "virbr*", "lxcbr*", "lxdbr*", "incusbr*")


@dataclass(frozen=True, slots=True)
class Forward:
    """What containers, virtual machines and routed clients may do.

    `bridges` are patterns of bridges on this machine: they reach it and each other in either mode. `clients` are interfaces whose
    hosts may use the tunnel when `mode` is TUNNEL. `local` are networks of theirs, `remote` networks at the tunnel's other end
    whose hosts may then call them; between the two addresses stay as they are.
    """

    mode: ForwardMode = ForwardMode.BLOCK
    bridges: tuple[str, ...] = LOCAL_BRIDGES
    clients: tuple[InterfaceName, ...] = ()
    local: tuple[Prefix, ...] = ()
    remote: tuple[Prefix, ...] = ()

    @property
    def served_clients(self) -> tuple[InterfaceName, ...]:
        """The clients whose hosts may use the tunnel now: none while nothing is forwarded."""
        return self.clients if self.mode is ForwardMode.TUNNEL else ()


@dataclass(frozen=True, slots=True)
class Resolver:
    """A resolver that answers over TLS (RFC 7858): `9.9.9.9:853#dns.quad9.net`."""

    address: Address
    port: Port
    name: str

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{int(self.port)}#{self.name}"


@dataclass(frozen=True, slots=True)
class Tailscale:
    """Tailscale beside the tunnel: tailscaled's own packets by its mark, and `TAILSCALE_INTERFACE` as one more tunnel.

    `port` is tailscaled's UDP port, `tcp` the ports of its control and relay servers, `servers` their addresses; empty: anywhere.
    """

    port: Port = TAILSCALED_PORT
    tcp: tuple[Port, ...] = (HTTPS,)
    servers: tuple[Prefix, ...] = ()


# The port that WireGuard's exporters have in Prometheus' list of ports.
LOCAL_EXPORTER = Listen(IPv4Address("127.0.0.1"), 9586)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the monitor serves its numbers, and who may ask; `textfile` is a file that it keeps for node_exporter.

    `password_file`'s first line is asked for, of `user`; `certificate` and `key` are PEM files.
    """

    listen: tuple[Listen, ...] = ()
    textfile: str | None = None
    user: str = "failshut"
    password_file: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the lock enforces, and what the monitor serves."""

    tunnels: tuple[Tunnel, ...]
    dhcp: bool = True
    ndp: bool = True
    # Whether `failshut portal` may let one browser sign in at a captive portal.
    portal: bool = False
    lan: Lan | None = None
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    tailscale: Tailscale | None = None
    outside: Outside | None = None
    forward: Forward = Forward()
    log: BlockedLog = BlockedLog.COUNT
    # Whether the initramfs loads the lock too.
    initramfs: bool = False
    backend: BackendName = BackendName.NFTABLES
    # Resolvers that are asked over TLS for a tunnel's endpoint while the tunnel is down, and the name in their certificate.
    resolvers: tuple[Resolver, ...] = ()
    # The addresses of every endpoint's name, but not of those in /etc/hosts: these are the user's own pins.
    pins: tuple[Pin, ...] = ()
    # No rule comes of it, so that it is no part of what the lock is.
    metrics: Metrics | None = field(default=None, repr=False)
    # Of a signed policy: it replaces none whose number is higher. By whom it is signed, "" where no signature is asked for.
    serial: int = field(default=0, compare=False, repr=False)
    signed_by: str = field(default="", compare=False, repr=False)
    # Where it was read from, for messages only: two policies that say the same are equal.
    path: str = field(default="", compare=False)

    @property
    def beside(self) -> tuple[InterfaceName, ...]:
        """The interfaces that may be left by as the tunnels may, and are none of `tunnels`."""
        named = {tunnel.interface for tunnel in self.tunnels}
        return (TAILSCALE_INTERFACE,) if self.tailscale and TAILSCALE_INTERFACE not in named else ()

    @property
    def interfaces(self) -> tuple[InterfaceName, ...]:
        """Every interface that may be left by: the tunnels', and Tailscale's."""
        return (*(tunnel.interface for tunnel in self.tunnels), *self.beside)

    @property
    def transit(self) -> frozenset[InterfaceName]:
        """The tunnels that carry another tunnel's transport, and nothing else."""
        return frozenset(tunnel.through for tunnel in self.tunnels if tunnel.through is not None)

    @property
    def open_tunnels(self) -> tuple[Tunnel, ...]:
        """The tunnels that every program may use."""
        return tuple(tunnel for tunnel in self.tunnels if tunnel.interface not in self.transit)

    @property
    def open_interfaces(self) -> tuple[InterfaceName, ...]:
        """The interfaces that every program may leave by: the open tunnels, and Tailscale's."""
        return (*(tunnel.interface for tunnel in self.open_tunnels), *self.beside)

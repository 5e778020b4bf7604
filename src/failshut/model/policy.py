"""What the user wants: the policy, checked and resolved, with every name turned into an address.

Built by `config` from failshut.toml and the tunnels' own files; read by `lower`, `drill` and the CLI. Field by field it is the
policy file of docs/reference/policy.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from failshut.model.units import Endpoint, InterfaceAddress, InterfaceName, Mark, Port, Prefix, Protocol

# What wg-quick(8) takes for its routing table and fwmark when the config sets none: 51820.
DEFAULT_FWMARK = Mark(0xCA6C)
# tailscaled's interface, unless it was told another.
TAILSCALE_INTERFACE = InterfaceName("tailscale0")
TAILSCALED_PORT, HTTPS = Port(41641), Port(443)


class ForwardMode(StrEnum):
    """What routed clients, containers and virtual machines may do."""

    BLOCK = "block"
    TUNNEL = "tunnel"


class BlockedLog(StrEnum):
    """How what is refused is made visible, beside the kernel's counted set that is always there."""

    COUNT = "count"
    NFLOG = "nflog"
    KERNEL = "kernel"


class BackendName(StrEnum):
    """Which tool's rules enforce the policy."""

    NFTABLES = "nftables"
    IPTABLES = "iptables"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A VPN interface and how its transport is recognised.

    `fwmark` is None when neither the policy nor the tunnel's config says one: the lock then uses `DEFAULT_FWMARK` and arming
    makes the tunnel carry it. `addresses` are the tunnel's own, refused on every other interface (CVE-2019-14899).
    """

    interface: InterfaceName
    endpoints: tuple[Endpoint, ...]
    fwmark: Mark | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    config: str | None = None
    # True when the wg-quick config itself sets FwMark, so that a restart of the tunnel brings the mark back.
    fwmark_in_config: bool = False
    # Names in the config's Endpoint lines, with what they were pinned to: the lock refuses the lookup wg-quick would make.
    named_endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lan:
    """The local network's prefixes. DNS and DoT to them stay refused unless `dns`; multicast names unless `multicast`."""

    prefixes: tuple[Prefix, ...]
    # Shell-style patterns as nft takes them: a trailing '*' is a prefix match. Empty: any underlay.
    interfaces: tuple[str, ...] = ()
    dns: bool = False
    multicast: bool = False


@dataclass(frozen=True, slots=True)
class Inbound:
    """A service on this machine that others may open connections to; replies only, by the interface they came in on."""

    name: str
    protocol: Protocol
    port: Port
    sources: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Outbound:
    """A pinned exception: these addresses, this protocol and port, and, when `uid` is set, only that user."""

    name: str
    protocol: Protocol
    to: tuple[Prefix, ...]
    port: Port
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Tailscale:
    """Tailscale beside the tunnel: tailscaled's own packets by its mark, and `TAILSCALE_INTERFACE` as one more tunnel.

    `port` is tailscaled's UDP port, `tcp` the ports of its control and relay servers, `servers` their addresses; empty: anywhere.
    """

    port: Port = TAILSCALED_PORT
    tcp: tuple[Port, ...] = (HTTPS,)
    servers: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the lock enforces."""

    tunnels: tuple[Tunnel, ...]
    dhcp: bool = True
    ndp: bool = True
    lan: Lan | None = None
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    tailscale: Tailscale | None = None
    forward: ForwardMode = ForwardMode.BLOCK
    log: BlockedLog = BlockedLog.COUNT
    backend: BackendName = BackendName.NFTABLES
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

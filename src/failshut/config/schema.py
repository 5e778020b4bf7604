"""The policy file's schema: every table and key, its type and its default, declared once. Editors get it as JSON Schema."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from failshut.config import addresses, listening, mistake, values
from failshut.model.backend import BackendName
from failshut.model.policy import (
    HTTPS,
    LOCAL_BRIDGES,
    LOCAL_EXPORTER,
    TAILSCALED_PORT,
    BlockedLog,
    ForwardMode,
    MulticastName,
    Resolver,
    Service,
)
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


def _said(reader: Any, **schema: Any) -> Any:
    """Return the annotation of a value that `reader` reads, and how an editor checks it."""
    return (PlainValidator(reader), WithJsonSchema(schema))


_PREFIX = _said(addresses.prefix, type="string", examples=["192.168.1.0/24", "fd50::/64"])
_PORT = _said(values.port, type="integer", minimum=1, maximum=65535)
_NAME = _said(values.allowance_name, type="string", pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")
_TUNNEL = _said(values.tunnel_name, type="string", pattern="^[a-zA-Z0-9_=+.-]{1,15}$")
_ENDPOINT = _said(
    addresses.endpoint, type="string", examples=["203.0.113.10:51820", "[2001:db8::10]:51820", "tcp://203.0.113.10:1194"]
)
_ADDRESS = _said(addresses.interface_address, type="string", examples=["10.99.0.2/32"])
_MARK = _said(values.mark, anyOf=[{"type": "integer", "minimum": 1, "maximum": 0xFFFFFFFF}, {"type": "string"}])
_PATTERN = _said(values.interface_pattern, type="string", examples=["eth0", "wl*"])
_TEXT = _said(mistake.string, type="string")
_SERVICE = _said(values.service, type="string", examples=["tcp/631", "udp/60000-61000"])
_HOST = _said(addresses.host_address, type="string", examples=["192.0.2.53"])
_RESOLVER = _said(addresses.resolver, type="string", examples=["9.9.9.9#dns.quad9.net"])
_DEVICE = _said(values.device, type="string", examples=["eth1"])
_CGROUP = _said(values.cgroup, type="string", examples=["system.slice/chrony.service"])
_SLICE = _said(values.slice_unit, type="string", examples=["failshut-outside.slice"])
_MULTICAST = _said(
    values.multicast, anyOf=[{"type": "boolean"}, {"type": "array", "items": {"enum": [str(each) for each in MulticastName]}}]
)
_LISTEN = _said(listening.listen, type="string", examples=["127.0.0.1:9586", "unix:/run/failshut/metrics.socket"])
_FILE = _said(listening.file, type="string", pattern="^/")
_TEXTFILE = _said(listening.textfile, type="string", pattern="^/.*\\.prom$")
_ON_DEMAND = "Only after `failshut allow NAME --for TIME`, and until the kernel ends it."
_USER = _said(values.user, anyOf=[{"type": "string"}, {"type": "integer", "minimum": 0}])


def _one_of(options: Any) -> Any:
    return _said(partial(mistake.choice, options=options), enum=[str(each) for each in options])


class Table(BaseModel):
    """A TOML table: strict types, no unknown key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class TunnelTable(Table):
    """[tunnel.NAME]: a VPN interface and how its transport is recognised."""

    config: Annotated[str | None, *_TEXT] = Field(
        default=None,
        description="The tunnel's own config, of wg-quick, systemd-networkd, NetworkManager or OpenVPN.",
    )
    endpoints: list[Annotated[Endpoint | NamedEndpoint, *_ENDPOINT]] | None = Field(
        default=None, description="Where the peers are reached; replaces the config's."
    )
    fwmark: Annotated[Mark | None, *_MARK] = Field(
        default=None, description="The mark the tunnel's own packets carry; replaces the config's."
    )
    addresses: list[Annotated[InterfaceAddress, *_ADDRESS]] | None = Field(
        default=None, description="The tunnel's own addresses; replaces the config's."
    )
    through: Annotated[InterfaceName | None, *_TUNNEL] = Field(
        default=None, description="Double hop: this tunnel's transport may leave only by that tunnel."
    )


class LanTable(Table):
    """[allow.lan]: the local network."""

    prefixes: list[Annotated[Prefix, *_PREFIX]] = Field(
        default=[], description="Networks on the link that may be reached beside the tunnel; packets leave with hop limit 1."
    )
    routed: list[Annotated[Prefix, *_PREFIX]] = Field(
        default=[], description="Local networks behind a router; packets keep their hop limit."
    )
    interfaces: list[Annotated[str, *_PATTERN]] = Field(
        default=[], description="Only by these interfaces; a star may end a name. Empty: any underlay."
    )
    dns: bool = Field(default=False, description="Allow DNS and DoT to the LAN.")
    multicast: Annotated[tuple[MulticastName, ...], *_MULTICAST] = Field(
        default=(), description='Allow names by multicast: true for all, or some of "mdns", "llmnr", "ssdp".'
    )
    services: list[Annotated[Service, *_SERVICE]] = Field(default=[], description="Only these ports. Empty: any.")
    on_demand: bool = Field(default=False, description=_ON_DEMAND)


class InboundTable(Table):
    """[[allow.inbound]]: a service on this machine that others may reach."""

    name: Annotated[str, *_NAME] = Field(description="A name for `status` and for the rule's comment.")
    protocol: Annotated[Protocol, *_one_of(Protocol)] = Field(default=Protocol.TCP, description="tcp or udp.")
    port: Annotated[Port, *_PORT] = Field(description="The port the service listens on.")
    sources: list[Annotated[Prefix, *_PREFIX]] = Field(default=[], alias="from", description="Who may connect. Empty: anyone.")
    on_demand: bool = Field(default=False, description=_ON_DEMAND)


class OutboundTable(Table):
    """[[allow.outbound]]: a pinned exception."""

    name: Annotated[str, *_NAME] = Field(description="A name for `status` and for the rule's comment.")
    protocol: Annotated[Protocol, *_one_of(Protocol)] = Field(description="tcp or udp.")
    to: list[Annotated[Prefix, *_PREFIX]] = Field(description="The addresses that may be reached.", min_length=1)
    port: Annotated[Port, *_PORT] = Field(description="The port that may be reached.")
    user: Annotated[str | int | None, *_USER] = Field(default=None, description="Only for this user, by name or number.")
    cgroup: Annotated[str | None, *_CGROUP] = Field(default=None, description="Only for programs of this control group.")
    on_demand: bool = Field(default=False, description=_ON_DEMAND)


class TailscaleTable(Table):
    """[allow.tailscale]: tailscaled's own traffic."""

    port: Annotated[Port, *_PORT] = Field(default=TAILSCALED_PORT, description="tailscaled's UDP port.")
    tcp: list[Annotated[Port, *_PORT]] = Field(
        default=[HTTPS], description="Ports of the control and relay servers. Empty: they are reached through the tunnel."
    )
    servers: list[Annotated[Prefix, *_PREFIX]] = Field(
        default=[], description="Only to these control and relay servers. Empty: anywhere."
    )


class AllowTable(Table):
    """[allow]: everything that may use the underlay beside the tunnel's transport."""

    dhcp: bool = Field(default=True, description="DHCPv4 and DHCPv6, narrowed to what a client sends.")
    ndp: bool = Field(default=True, description="IPv6 neighbour and router discovery, link-local only.")
    portal: bool = Field(default=False, description="Let `failshut portal` open a captive portal's sign-in to one browser.")
    lan: LanTable | None = None
    inbound: list[InboundTable] = []
    outbound: list[OutboundTable] = []
    tailscale: TailscaleTable | None = None


class OutsideTable(Table):
    """[outside]: split tunnel."""

    prefixes: list[Annotated[Prefix, *_PREFIX]] = Field(default=[], description="Networks reached outside the tunnel.")
    dns: list[Annotated[Address, *_HOST]] = Field(
        default=[], description="Resolvers that programs outside may ask. Empty: their lookups go through the tunnel."
    )
    slice: Annotated[str, *_SLICE] = Field(
        default="failshut-outside.slice", description="The systemd slice of programs outside the tunnel."
    )


class ForwardTable(Table):
    """[forward]: containers, virtual machines, routed clients."""

    mode: Annotated[ForwardMode, *_one_of(ForwardMode)] = Field(
        default=ForwardMode.BLOCK, description='"block", or "tunnel": only into a tunnel.'
    )
    bridges: list[Annotated[str, *_PATTERN]] = Field(
        default=list(LOCAL_BRIDGES), description="Bridges on this machine: they reach it and each other."
    )
    clients: list[Annotated[InterfaceName, *_DEVICE]] = Field(
        default=[], description='Interfaces whose hosts may use the tunnel, with mode = "tunnel".'
    )
    local: list[Annotated[Prefix, *_PREFIX]] = Field(default=[], description="The clients' networks that `remote` may call.")
    remote: list[Annotated[Prefix, *_PREFIX]] = Field(
        default=[], description="Networks at the tunnel's other end whose hosts may call those of `local`."
    )


class EndpointTable(Table):
    """[endpoint]: how a tunnel's server is found again when its address changes."""

    resolvers: list[Annotated[Resolver, *_RESOLVER]] = Field(
        default=[], description="Asked over TLS, one query at a time, while the tunnel is down."
    )


class LogTable(Table):
    """[log]: how refused packets are made visible."""

    blocked: Annotated[BlockedLog, *_one_of(BlockedLog)] = Field(
        default=BlockedLog.COUNT, description='"count", "nflog" or "kernel".'
    )


class BootTable(Table):
    """[boot]: where a boot loads the lock."""

    initramfs: bool = Field(
        default=False, description="Load the lock in the initramfs too, before a network that is configured there."
    )


class MetricsTable(Table):
    """[metrics]: numbers for Prometheus, from the monitor."""

    listen: list[Annotated[Listen, *_LISTEN]] = Field(
        default=[LOCAL_EXPORTER],
        description="Where they are served over HTTP: an address and a port, or unix: and a path. Empty: nowhere.",
    )
    textfile: Annotated[str | None, *_TEXTFILE] = Field(
        default=None, description="A file that is kept up to date for node_exporter's textfile collector."
    )
    user: Annotated[str, *_TEXT] = Field(default="failshut", description="Who may ask, with a password.")
    password_file: Annotated[str | None, *_FILE] = Field(default=None, description="Its first line is the password.")
    certificate: Annotated[str | None, *_FILE] = Field(default=None, description="TLS, with this PEM chain.")
    key: Annotated[str | None, *_FILE] = Field(default=None, description="The certificate's key, where it is apart.")


class BackendTable(Table):
    """[backend]: which tool's rules enforce the policy."""

    use: Annotated[BackendName, *_one_of(BackendName)] = Field(
        default=BackendName.NFTABLES, description='"nftables" or "iptables".'
    )


class Document(Table):
    """The policy file, failshut.toml."""

    tunnel: dict[Annotated[InterfaceName, *_TUNNEL], TunnelTable] = {}
    serial: int = Field(
        default=0,
        ge=0,
        description="Counts up with every signed policy: a machine that asks for signatures refuses one lower than what is armed.",
    )
    # Factories, not values: pydantic would write each default table into the JSON Schema.
    allow: AllowTable = Field(default_factory=AllowTable)
    outside: OutsideTable | None = None
    endpoint: EndpointTable = Field(default_factory=EndpointTable)
    forward: ForwardTable = Field(default_factory=ForwardTable)
    log: LogTable = Field(default_factory=LogTable)
    boot: BootTable = Field(default_factory=BootTable)
    metrics: MetricsTable | None = None
    backend: BackendTable = Field(default_factory=BackendTable)


# Where each table stands; '*' is any tunnel's name, '#' any index of an array.
TABLES: dict[tuple[str, ...], type[Table]] = {
    (): Document,
    ("tunnel", "*"): TunnelTable,
    ("allow",): AllowTable,
    ("allow", "lan"): LanTable,
    ("allow", "inbound", "#"): InboundTable,
    ("allow", "outbound", "#"): OutboundTable,
    ("allow", "tailscale"): TailscaleTable,
    ("outside",): OutsideTable,
    ("endpoint",): EndpointTable,
    ("forward",): ForwardTable,
    ("log",): LogTable,
    ("boot",): BootTable,
    ("metrics",): MetricsTable,
    ("backend",): BackendTable,
}


def keys_of(table: type[Table]) -> tuple[str, ...]:
    """Return the keys of a table as they are written in the file."""
    return tuple(field.alias or name for name, field in table.model_fields.items())


def json_schema() -> dict[str, Any]:
    """Return the policy file's JSON Schema (draft 2020-12), for editors such as taplo."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema(by_alias=True)}

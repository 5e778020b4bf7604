"""Builds each tunnel from its table, its own config and the resolved names, keeping where every address was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from failshut.config.declaration import Declaration, Sources, Unreadable
from failshut.config.formats.recognise import read_tunnel
from failshut.config.formats.tunnel_config import Remote, Sited, TunnelConfig, place
from failshut.config.locate import Path
from failshut.config.schema import TunnelTable
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import DEFAULT_FWMARK, Tunnel, TunnelKind
from failshut.model.units import Address, Endpoint, InterfaceAddress, InterfaceName, Mark, NamedEndpoint


@dataclass(slots=True)
class Built:
    """A tunnel on its way to being one: what was found so far, what was wrong, and where it stands in the policy."""

    name: InterfaceName
    path: Path
    table: TunnelTable
    config: TunnelConfig | None = None
    endpoints: list[Sited[Endpoint]] = field(default_factory=list)
    addresses: list[Sited[InterfaceAddress]] = field(default_factory=list)
    names: list[NamedEndpoint] = field(default_factory=list)
    needs_dns: list[str] = field(default_factory=list)
    owners: tuple[int, ...] = (0,)
    findings: list[Finding] = field(default_factory=list)
    # The mark when neither the policy nor the config says one: no other tunnel's.
    default_mark: Mark = DEFAULT_FWMARK

    @property
    def fwmark(self) -> Mark | None:
        """The policy's mark, else the config's, else None."""
        if "fwmark" in self.table.model_fields_set:
            return self.table.fwmark
        return self.config.fwmark if self.config else None

    def tunnel(self) -> Tunnel:
        """Return the finished tunnel."""
        mark = self.fwmark
        return Tunnel(
            interface=self.name,
            endpoints=tuple(dict.fromkeys(each.value for each in self.endpoints)),
            fwmark=mark,
            addresses=tuple(dict.fromkeys(each.value for each in self.addresses)),
            config=self.config.path if self.config else None,
            fwmark_in_config=self.config is not None and mark is not None and self.config.fwmark == mark,
            named_endpoints=tuple(dict.fromkeys(self.needs_dns)),
            through=self.table.through,
            default_mark=self.default_mark,
            names=tuple(dict.fromkeys(self.names)),
            kind=self.config.kind if self.config else TunnelKind.WG_QUICK,
            owners=self.owners,
            table=self.config.table if self.config else None,
        )


def build(declaration: Declaration, sources: Sources) -> list[Built]:
    """Return every tunnel of the declaration, each with its own findings."""
    built = [_build(name, table, declaration, sources) for name, table in declaration.document.tunnel.items()]
    taken = {each.fwmark for each in built}
    free = (mark for number in count(DEFAULT_FWMARK) if (mark := Mark(number)) not in taken)
    for each in built:
        if each.fwmark is None:
            # Counting up as wg-quick does: its routing table has the mark's number, and two tunnels can't share one.
            each.default_mark = next(free)
    return built


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be looked up for the tunnels' own configs: host names, of tunnels without `endpoints`, and users."""

    hosts: tuple[str, ...]
    users: tuple[str, ...]


def wanted(declaration: Declaration, files: Mapping[str, bytes | Unreadable], beside: Mapping[str, Mapping[str, bytes]]) -> Wanted:
    """Return what the tunnels' configs name."""
    hosts: dict[str, None] = {}
    users: dict[str, None] = {}
    for table in declaration.document.tunnel.values():
        file = declaration.file_of(table.config) if table.config else ""
        raw = files.get(file)
        config = read_tunnel(raw, file, beside.get(file)) if isinstance(raw, bytes) else None
        if isinstance(config, TunnelConfig):
            users.update({config.user: None} if config.user else {})
            sites = () if table.endpoints else (each.site for each in config.remotes)
            hosts.update((each.host, None) for each in sites if isinstance(each, NamedEndpoint))
    return Wanted(tuple(hosts), tuple(users))


def _build(name: InterfaceName, table: TunnelTable, declaration: Declaration, sources: Sources) -> Built:
    built = Built(name, ("tunnel", name), table)
    _read_config(built, declaration, sources)
    _take_endpoints(built, declaration, sources)
    _take_addresses(built, declaration)
    if built.config:
        built.findings += [
            # One that carries another tunnel alone leads to that one's server alone.
            *(each for each in built.config.remarks if each.code is not Code.CONFIG_NOT_FULL or not _carries(name, declaration)),
            *_other_name(built, built.config, declaration),
            *_lookups(built, built.config, sources),
            *_owner(built, built.config, sources),
            *_exposed(built.config, sources),
        ]
    return built


def _carries(name: InterfaceName, declaration: Declaration) -> bool:
    return any(each.through == name for each in declaration.document.tunnel.values())


def _read_config(built: Built, declaration: Declaration, sources: Sources) -> None:
    if built.table.config is None:
        return
    file = declaration.file_of(built.table.config)
    raw = sources.files.get(file, Unreadable("it was not looked for"))
    if isinstance(raw, Unreadable):
        code = Code.NO_PRIVILEGE if raw.denied else Code.CONFIG_UNREADABLE
        message = f"the config of {built.name}, {file}, can't be read: {raw.why}"
        remedy = raw.help or f'correct `config`, or remove it and write endpoints = ["ADDRESS:PORT"] in [tunnel.{built.name}]'
        built.findings.append(declaration.finding((*built.path, "config"), code, message, remedy))
        return
    config = read_tunnel(raw, file, sources.beside.get(file))
    if isinstance(config, TunnelConfig):
        built.config = config
    else:
        built.findings += config


def _take_endpoints(built: Built, declaration: Declaration, sources: Sources) -> None:
    at = (*built.path, "endpoints")
    if built.table.endpoints is not None:
        for index, each in enumerate(built.table.endpoints):
            where = declaration.where((*at, index))
            if isinstance(each, Endpoint):
                built.endpoints.append(Sited(each, where))
                continue
            built.names.append(each)
            addresses = _addresses_of(each.host, sources)
            if isinstance(addresses, str):
                built.findings.append(declaration.finding((*at, index), *_unresolved(each, addresses)))
            else:
                built.endpoints += [Sited(Endpoint(address, each.port, each.protocol), where) for address in addresses]
    elif built.config:
        for remote in built.config.remotes:
            _take_remote(built, built.config, remote, sources)
    _require_endpoint(built, declaration)


def _take_remote(built: Built, config: TunnelConfig, remote: Remote, sources: Sources) -> None:
    where = f"{config.path}:{remote.line}"
    match remote.site:
        case Endpoint():
            built.endpoints.append(Sited(remote.site, where))
        case NamedEndpoint(host, port, protocol):
            built.names.append(remote.site)
            addresses = _addresses_of(host, sources)
            if isinstance(addresses, str):
                code, message, remedy = _unresolved(remote.site, addresses)
                built.findings.append(config.source.finding(code, message, place(config.source, remote.line), remedy))
            else:
                built.endpoints += [Sited(Endpoint(address, port, protocol), where) for address in addresses]


def _addresses_of(host: str, sources: Sources) -> tuple[Address, ...] | str:
    """Return the addresses of a name, or why there is none."""
    found = sources.names.get(host, ())
    if not isinstance(found, tuple):
        return found.why
    return found or "it has no address"


def _unresolved(named: NamedEndpoint, why: str) -> tuple[Code, str, str]:
    remedy = f'write the address itself, "ADDRESS:{int(named.port)}", or add the name to /etc/hosts: the lock must hold without DNS'
    return Code.UNRESOLVED_NAME, f"the host name '{named.host}' does not resolve: {why}", remedy


# What is missing from a config without a server, and the line that says one.
_NO_ENDPOINT = {
    TunnelKind.WG_QUICK: ("no [Peer] has an Endpoint", "Endpoint = ADDRESS:PORT to the [Peer]"),
    TunnelKind.NETWORKD: ("no [WireGuardPeer] has an Endpoint", "Endpoint=ADDRESS:PORT to the [WireGuardPeer]"),
    TunnelKind.NETWORK_MANAGER: ("no [wireguard-peer] has an endpoint", "endpoint=ADDRESS:PORT to the [wireguard-peer.…]"),
    TunnelKind.OPENVPN: ("there is no remote", "remote ADDRESS PORT"),
}


def _require_endpoint(built: Built, declaration: Declaration) -> None:
    """Say that a tunnel has no endpoint, unless another finding is the reason for it."""
    if built.endpoints or built.findings or declaration.is_damaged(*built.path):
        return
    if built.config is not None and built.table.endpoints is None:
        missing, line = _NO_ENDPOINT[built.config.kind]
        message = f"{missing}: the lock would not know where {built.name} may send its handshakes"
        remedy = f'add {line}, or endpoints = ["ADDRESS:PORT"] to [tunnel.{built.name}]'
        at = place(built.config.source, built.config.peer_line)
        built.findings.append(built.config.source.finding(Code.CONFIG_NO_ENDPOINT, message, at, remedy))
        return
    message = f"the tunnel {built.name} has no endpoint: with the lock armed it could never connect"
    remedy = f'add config = "/etc/wireguard/{built.name}.conf", or endpoints = ["ADDRESS:PORT"]'
    built.findings.append(declaration.finding(built.path, Code.NO_ENDPOINT, message, remedy))


def _take_addresses(built: Built, declaration: Declaration) -> None:
    if built.table.addresses is not None:
        at = (*built.path, "addresses")
        built.addresses += [Sited(each, declaration.where((*at, index))) for index, each in enumerate(built.table.addresses)]
    elif built.config:
        built.addresses += built.config.addresses


def _other_name(built: Built, config: TunnelConfig, declaration: Declaration) -> Iterator[Finding]:
    name = config.interface
    if name and name != built.name:
        of_quick = config.kind is TunnelKind.WG_QUICK
        message = f"{config.kind} makes the interface '{name}' of this config, but the tunnel is called '{built.name}'"
        remedy = f"rename the table to [tunnel.{name}]" + (f", unless you bring {built.name} up by other means" if of_quick else "")
        at = (*built.path, "config")
        yield declaration.finding(at, Code.CONFIG_OTHER_NAME, message, remedy, Severity.WARNING)


def _lookups(built: Built, config: TunnelConfig, sources: Sources) -> Iterator[Finding]:
    """Warn of names that its program would look up: the lock refuses the lookup, so the tunnel would not come up at boot."""
    for remote in config.remotes:
        if not isinstance(remote.site, NamedEndpoint) or remote.site.host in sources.pinned:
            continue
        host, port = remote.site.host, remote.site.port
        built.needs_dns.append(host)
        known = sources.names.get(host)
        pins = (
            known if isinstance(known, tuple) else tuple(each.value.address for each in built.endpoints if each.value.port == port)
        )
        lines = ", ".join(f'"{address} {host}"' for address in pins) or f'"ADDRESS {host}"'
        what = _ENDPOINT_WORDS[config.kind]
        message = f"{what} is the host name '{host}': the lock refuses {config.kind}'s lookup of it, so {built.name} can't start"
        remedy = f"add to /etc/hosts: {lines}; or write the address itself"
        if config.kind is TunnelKind.WG_QUICK:
            remedy = f"`failshut refresh --up {built.name}` starts it; or {remedy}"
        yield config.source.finding(
            Code.CONFIG_NAME_NEEDS_DNS, message, place(config.source, remote.line), remedy, Severity.WARNING
        )


_ENDPOINT_WORDS = {
    TunnelKind.WG_QUICK: "Endpoint",
    TunnelKind.NETWORKD: "Endpoint",
    TunnelKind.NETWORK_MANAGER: "endpoint",
    TunnelKind.OPENVPN: "remote",
}


def _owner(built: Built, config: TunnelConfig, sources: Sources) -> Iterator[Finding]:
    """Note whose the transport's sockets are: the first one is root's; the program is another user when it makes a later one."""
    if not config.user:
        return
    uid = sources.users.get(config.user)
    if uid is None:
        message = f"there is no user '{config.user}' on this machine, and {config.kind} would not start"
        at = place(config.source, config.user_line)
        yield config.source.finding(Code.UNKNOWN_USER, message, at, "correct the name, or make the user")
    elif uid:
        built.owners = (0, uid)


def _exposed(config: TunnelConfig, sources: Sources) -> Iterator[Finding]:
    """Say who else may decide where the tunnel goes; it points at the private key, where one stands there."""
    seen = sources.access.get(config.path)
    if seen is None:
        return
    at = place(config.source, config.secret_line)
    and_key = ", and take its private key" if config.secret_line else ""
    if seen.others_write:
        message = f"every user may write this file, and so decide where the tunnel goes and what root runs{and_key}"
        yield config.source.finding(Code.CONFIG_EXPOSED, message, at, f"chmod go-rwx {config.path}")
    elif seen.owner:
        message = f"this file is {seen.owner}'s, who can decide where the tunnel goes and what root runs{and_key}"
        yield config.source.finding(Code.CONFIG_EXPOSED, message, at, f"chown root: {config.path}", Severity.WARNING)


def effective_mark(built: Built) -> Mark:
    """Return the mark that the lock looks for."""
    return built.fwmark or built.default_mark

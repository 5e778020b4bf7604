"""Builds each tunnel from its table, its wg-quick config and the resolved names, keeping where every address was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from failshut.config import wgquick
from failshut.config.declaration import Declaration, Sources, Unreadable
from failshut.config.locate import Path
from failshut.config.schema import TunnelTable
from failshut.config.wgquick import Peer, WgQuickConfig
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import DEFAULT_FWMARK, Tunnel
from failshut.model.units import Address, Endpoint, InterfaceAddress, InterfaceName, Mark, NamedEndpoint

T = TypeVar("T")

_FIREWALL = re.compile(r"(?<![\w.-])(ip6?tables(-[\w-]+)?|nft|ufw|firewall-cmd|ebtables)(?![\w-])")


@dataclass(frozen=True, slots=True)
class Sited(Generic[T]):
    """A value and where it was written, as file:line."""

    value: T
    where: str


@dataclass(slots=True)
class Built:
    """A tunnel on its way to being one: what was found so far, what was wrong, and where it stands in the policy."""

    name: InterfaceName
    path: Path
    table: TunnelTable
    config: WgQuickConfig | None = None
    endpoints: list[Sited[Endpoint]] = field(default_factory=list)
    addresses: list[Sited[InterfaceAddress]] = field(default_factory=list)
    names: list[NamedEndpoint] = field(default_factory=list)
    needs_dns: list[str] = field(default_factory=list)
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


def named_peers(declaration: Declaration, files: dict[str, bytes | Unreadable]) -> tuple[str, ...]:
    """Return the host names that must be resolved from the tunnels' own configs: those of tunnels without `endpoints`."""
    hosts: dict[str, None] = {}
    for table in declaration.document.tunnel.values():
        raw = files.get(declaration.file_of(table.config)) if table.config and not table.endpoints else None
        config = wgquick.read(raw, "") if isinstance(raw, bytes) else None
        if isinstance(config, WgQuickConfig):
            hosts.update((each.endpoint.host, None) for each in config.peers if isinstance(each.endpoint, NamedEndpoint))
    return tuple(hosts)


def _build(name: InterfaceName, table: TunnelTable, declaration: Declaration, sources: Sources) -> Built:
    built = Built(name, ("tunnel", name), table)
    _read_config(built, declaration, sources)
    _take_endpoints(built, declaration, sources)
    _take_addresses(built, declaration)
    if built.config:
        built.findings += [
            *_other_name(built, declaration),
            *_lookups(built, built.config, sources),
            *_own_firewall(built.config),
            # One that carries another tunnel alone leads to that one's server alone.
            *(() if any(each.through == name for each in declaration.document.tunnel.values()) else _not_full(built.config)),
        ]
    return built


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
    config = wgquick.read(raw, file)
    if isinstance(config, WgQuickConfig):
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
        for peer in built.config.peers:
            _take_peer(built, built.config, peer, sources)
    _require_endpoint(built, declaration)


def _take_peer(built: Built, config: WgQuickConfig, peer: Peer, sources: Sources) -> None:
    where = f"{config.path}:{peer.endpoint_line}"
    match peer.endpoint:
        case Endpoint():
            built.endpoints.append(Sited(peer.endpoint, where))
        case NamedEndpoint(host, port):
            built.names.append(peer.endpoint)
            addresses = _addresses_of(host, sources)
            if isinstance(addresses, str):
                code, message, remedy = _unresolved(peer.endpoint, addresses)
                built.findings.append(config.source.finding(code, message, _line(config, peer.endpoint_line), remedy))
            else:
                built.endpoints += [Sited(Endpoint(address, port), where) for address in addresses]
        case None:
            pass


def _addresses_of(host: str, sources: Sources) -> tuple[Address, ...] | str:
    """Return the addresses of a name, or why there is none."""
    found = sources.names.get(host, ())
    if not isinstance(found, tuple):
        return found.why
    return found or "it has no address"


def _unresolved(named: NamedEndpoint, why: str) -> tuple[Code, str, str]:
    remedy = f'write the address itself, "ADDRESS:{int(named.port)}", or add the name to /etc/hosts: the lock must hold without DNS'
    return Code.UNRESOLVED_NAME, f"the host name '{named.host}' does not resolve: {why}", remedy


def _require_endpoint(built: Built, declaration: Declaration) -> None:
    """Say that a tunnel has no endpoint, unless another finding is the reason for it."""
    if built.endpoints or built.findings or declaration.is_damaged(*built.path):
        return
    if built.config is not None and built.table.endpoints is None:
        message = f"no [Peer] has an Endpoint: the lock would not know where {built.name} may send its handshakes"
        remedy = f'add Endpoint = ADDRESS:PORT to the [Peer], or endpoints = ["ADDRESS:PORT"] to [tunnel.{built.name}]'
        line = built.config.peers[0].line if built.config.peers else 0
        built.findings.append(built.config.source.finding(Code.CONFIG_NO_ENDPOINT, message, _line(built.config, line), remedy))
        return
    message = f"the tunnel {built.name} has no endpoint: with the lock armed it could never connect"
    remedy = f'add config = "/etc/wireguard/{built.name}.conf", or endpoints = ["ADDRESS:PORT"]'
    built.findings.append(declaration.finding(built.path, Code.NO_ENDPOINT, message, remedy))


def _take_addresses(built: Built, declaration: Declaration) -> None:
    if built.table.addresses is not None:
        at = (*built.path, "addresses")
        built.addresses += [Sited(each, declaration.where((*at, index))) for index, each in enumerate(built.table.addresses)]
    elif built.config:
        built.addresses += [Sited(each, f"{built.config.path}:{built.config.address_line}") for each in built.config.addresses]


def _line(config: WgQuickConfig, number: int) -> tuple[int, int, int]:
    text = config.source.lines[number - 1] if number else ""
    return (number, len(text) - len(text.lstrip()) + 1, max(len(text.strip()), 1))


def _other_name(built: Built, declaration: Declaration) -> Iterator[Finding]:
    stem = PurePosixPath(built.table.config or "").stem
    if stem != built.name:
        message = f"wg-quick makes the interface '{stem}' of this config, but the tunnel is called '{built.name}'"
        remedy = f"rename the table to [tunnel.{stem}], unless you bring {built.name} up by other means"
        at = (*built.path, "config")
        yield declaration.finding(at, Code.CONFIG_OTHER_NAME, message, remedy, Severity.WARNING)


def _lookups(built: Built, config: WgQuickConfig, sources: Sources) -> Iterator[Finding]:
    """Warn of names that wg-quick would look up: the lock refuses the lookup, so the tunnel would not come up at boot."""
    for peer in config.peers:
        if not isinstance(peer.endpoint, NamedEndpoint) or peer.endpoint.host in sources.pinned:
            continue
        host, port = peer.endpoint.host, peer.endpoint.port
        built.needs_dns.append(host)
        known = sources.names.get(host)
        pins = (
            known if isinstance(known, tuple) else tuple(each.value.address for each in built.endpoints if each.value.port == port)
        )
        lines = ", ".join(f'"{address} {host}"' for address in pins) or f'"ADDRESS {host}"'
        message = f"Endpoint is the host name '{host}': the lock refuses wg-quick's lookup of it, so {built.name} can't start"
        remedy = f"`failshut refresh --up {built.name}` starts it; or add to /etc/hosts: {lines}; or write the address itself"
        yield config.source.finding(
            Code.CONFIG_NAME_NEEDS_DNS, message, _line(config, peer.endpoint_line), remedy, Severity.WARNING
        )


def _own_firewall(config: WgQuickConfig) -> Iterator[Finding]:
    for hook in config.hooks:
        tool = _FIREWALL.search(hook.command)
        if tool:
            message = f"{hook.when} runs {tool[0]}: a firewall of the tunnel's own beside the lock"
            remedy = "the lock does not need it; remove the line once the lock is armed, so that one place says what may leave"
            yield config.source.finding(Code.CONFIG_OWN_FIREWALL, message, _line(config, hook.line), remedy, Severity.WARNING)


def _not_full(config: WgQuickConfig) -> Iterator[Finding]:
    if config.peers and not config.is_full_tunnel and config.table != "off":
        message = "AllowedIPs do not cover all addresses: with the lock armed, what does not go into the tunnel goes nowhere"
        remedy = "for a VPN that carries everything write AllowedIPs = 0.0.0.0/0, ::/0"
        at = _line(config, config.peers[0].line)
        yield config.source.finding(Code.CONFIG_NOT_FULL, message, at, remedy, Severity.WARNING)


def effective_mark(built: Built) -> Mark:
    """Return the mark that the lock looks for."""
    return built.fwmark or built.default_mark

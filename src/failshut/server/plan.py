"""What `server init` would change, as data: everything is checked here, and nothing is changed yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from failshut.arming.undo import read_text
from failshut.emit.nft import emit
from failshut.host.files import PRIVATE_FILE
from failshut.host.filter import nft
from failshut.model.exits import Exit
from failshut.model.plan import FileChange, SysctlChange
from failshut.model.policy import Service
from failshut.model.units import Address, Endpoint, InterfaceAddress, NamedEndpoint, Port, Prefix, Protocol
from failshut.server import config
from failshut.server.errors import ServerError
from failshut.server.facts import NO_IPV6, Facts
from failshut.server.firewall import firewall
from failshut.server.model import Server, Settings
from failshut.server.places import CONFIG, INTERFACE, RECORD, RULES, SYSCTLS, UNIT, UNIT_PATH
from failshut.templates.answers import doubt
from failshut.templates.make import gateway, own_network6

PORT = Port(51820)
_DNS = "9.9.9.9, 2620:fe::fe"
# The first of these that the machine does not know already.
_NETWORKS = tuple(ip_network(f"10.{number}.0.0/24") for number in range(86, 96))
_IPV4, _IPV6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"
# Every machine has these, and none of them serves anybody.
_CLIENTS = frozenset(Service(Protocol.UDP, Port(each), Port(each)) for each in (68, 546, 5353))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line said; None is nothing: then it stays as it is, or is what a new server has."""

    endpoint: Endpoint | NamedEndpoint | None = None
    port: Port | None = None
    network: IPv4Network | None = None
    network6: IPv6Network | None = None
    dns: tuple[Address, ...] | None = None
    ssh: tuple[Port, ...] | None = None
    opened: tuple[Service, ...] | None = None
    reach: tuple[Prefix, ...] | None = None
    serve: tuple[Service, ...] | None = None
    talk: bool | None = None
    internet: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """From this machine as it is to the server. `rules` is the firewall as it is loaded; `notes` what must be known before."""

    server: Server
    rules: str = field(repr=False)
    files: tuple[FileChange, ...]
    sysctls: tuple[SysctlChange, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether a file or a setting would change."""
        return bool(self.sysctls) or any(each.is_change for each in self.files)


def existing() -> Server | None:
    """Return the server that this machine's config describes; None without a config. Raises `ServerError`."""
    text = read_text(CONFIG)
    if text is None:
        return None
    try:
        found = config.read(text, str(CONFIG), INTERFACE)
    except config.NotOursError:
        remedy = f"move it away, or make it a server's by a line below [Interface]: # failshut: endpoint = ADDRESS:{int(PORT)}"
        raise ServerError(f"{CONFIG} is there already, and was not made by failshut", remedy) from None
    if isinstance(found, list):
        raise ServerError(f"{CONFIG} has mistakes", findings=found, code=Exit.USAGE)
    return found


def make_plan(asked: Asked, facts: Facts, private: str, public: str, chance: bytes) -> Plan:
    """Return what is to be done. `private` and `public` are the keys of a server that is new. Raises `ServerError`."""
    _check(facts)
    before = existing()
    server = _changed(before, asked, facts) if before else _fresh(asked, facts, private, chance)
    if server.settings.ssh is None:
        remedy = "--ssh-port NUMBER keeps one open, --no-ssh says that there is none: without it, the firewall shuts you out"
        raise ServerError("no SSH server was found to listen on this machine", remedy)
    text = read_text(CONFIG)
    rules = emit(firewall(server))
    loadable = nft.check(rules)
    if not loadable.ok:
        raise ServerError(f"the firewall does not load: {loadable.complaint}", "this is a mistake of failshut's: please report it")
    sysctls = tuple(_sysctls(facts))
    wanted = (
        config.fresh(server, public) if text is None else config.with_settings(config.with_port(text, server.port), server.settings)
    )
    return Plan(server, rules, tuple(_files(wanted, rules, sysctls, facts)), sysctls, tuple(_notes(server, facts)))


def _check(facts: Facts) -> None:
    if facts.missing:
        remedy = "apt install wireguard-tools nftables iproute2"
        raise ServerError(f"not installed: {', '.join(facts.missing)}", remedy)
    if facts.uplinks[4] is None and facts.uplinks[6] is None:
        raise ServerError("this machine has no default route: its peers would reach nothing", "bring its network up first")
    if facts.armed:
        remedy = "`failshut disarm` first, or use another machine"
        raise ServerError("this machine's lock is armed: it forwards nothing, and lets nobody in", remedy)


def _fresh(asked: Asked, facts: Facts, private: str, chance: bytes) -> Server:
    endpoint = asked.endpoint or _own_endpoint(facts, asked.port or PORT)
    port = asked.port or endpoint.port
    if any(each.service == _udp(port) for each in facts.listeners):
        raise ServerError(f"UDP port {int(port)} is taken by another program", "--port names another")
    network = asked.network or next((each for each in _NETWORKS if not _known(each, facts)), None)
    if network is None or (asked.network and (there := _known(asked.network, facts))):
        where = f"{asked.network} is" if asked.network else "every network that would be taken is"
        raise ServerError(f"{where} known to this machine already{f' ({there})' if network else ''}", "--network names another")
    addresses: list[InterfaceAddress] = [gateway(network)]
    if _speaks_ipv6(facts):
        addresses.append(gateway(asked.network6 or own_network6(chance)))
    settings = Settings(
        endpoint=endpoint,
        dns=config.READERS["dns"][1](_DNS),
        ssh=facts.ssh or None,
        # Containers, perhaps: whoever forwards already goes on, in the family that is forwarded already; init turns on both.
        others=tuple(version for version, path in ((4, _IPV4), (6, _IPV6)) if (facts.sysctls or {}).get(path) == "1"),
    )
    return Server(INTERFACE, tuple(addresses), port, private, _said(settings, asked))


def _own_endpoint(facts: Facts, port: Port) -> Endpoint:
    if not facts.public:
        own = f": {', '.join(map(str, facts.addresses))} is private" if facts.addresses else ""
        remedy = "--endpoint ADDRESS or NAME, as the peers reach it; a router before it must pass the port on"
        raise ServerError(f"how this machine is reached can't be told{own}", remedy)
    return Endpoint(facts.public[0], port)


def _changed(before: Server, asked: Asked, facts: Facts) -> Server:
    networks = {each.version: each for each in before.networks}
    for wanted in (asked.network, asked.network6):
        if wanted and networks.get(wanted.version) != wanted:
            remedy = "`failshut server remove`, then init again: every peer needs a new config"
            raise ServerError(f"the peers' network is {networks.get(wanted.version)}, and they have it in their configs", remedy)
    settings = before.settings
    if settings.ssh is None:
        settings = replace(settings, ssh=facts.ssh or None)
    elif settings.ssh:
        # An SSH server that has moved is not shut out; where it was stays open until it is said otherwise.
        settings = replace(settings, ssh=tuple(sorted({*settings.ssh, *facts.ssh})))
    return replace(before, port=asked.port or before.port, settings=_said(settings, asked))


def _said(settings: Settings, asked: Asked) -> Settings:
    said = {each.name: getattr(asked, each.name, None) for each in fields(Settings)}
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    return replace(settings, **changes)


def _known(network: Prefix, facts: Facts) -> Prefix | None:
    return next((each for each in facts.networks if each.version == network.version and each.overlaps(network)), None)


def _speaks_ipv6(facts: Facts) -> bool:
    now = facts.sysctls or {}
    return now.get(_IPV6) is not None and now.get(NO_IPV6) != "1"


def _udp(port: Port) -> Service:
    return Service(Protocol.UDP, port, port)


def _sysctls(facts: Facts) -> Iterator[SysctlChange]:
    """Yield the settings that forwarding needs, and which this machine does not have."""
    now = facts.sysctls or {}
    # A machine that forwards believes no router's advertisement, and would lose its own IPv6; 2 says: all the same.
    wanted = {_IPV4: "1", _IPV6: "1", **{f"net/ipv6/conf/{each}/accept_ra": "2" for each in facts.advertised}}
    for path, value in wanted.items():
        before = now.get(path)
        if before is not None and before != value:
            yield SysctlChange(path, before, value)


def _files(wanted: str, rules: str, sysctls: tuple[SysctlChange, ...], facts: Facts) -> Iterator[FileChange]:
    record = read_text(RECORD) or json.dumps({"sysctls": {each.path: each.before for each in sysctls}}, indent=1) + "\n"
    yield _file(RECORD, record, PRIVATE_FILE)
    yield _file(RULES, f"# Written by `failshut server init` from {CONFIG}; do not edit.\n{rules}", 0o644)
    yield _file(SYSCTLS, _sysctl_text(facts), 0o644)
    if facts.with_systemd:
        yield _file(UNIT_PATH, files("failshut.server").joinpath("files", UNIT).read_text(encoding="utf-8"), 0o644)
    yield _file(CONFIG, wanted, PRIVATE_FILE)


def _sysctl_text(facts: Facts) -> str:
    lines = ["# Written by `failshut server init`: the server forwards what its peers send."]
    lines += [f"{_IPV4.replace('/', '.')} = 1"]
    lines += [f"{_IPV6.replace('/', '.')} = 1"] if _speaks_ipv6(facts) else []
    # A device's name may hold a dot, which is why the form with slashes stands here.
    lines += [f"net/ipv6/conf/{each}/accept_ra = 2" for each in facts.advertised]
    kept = read_text(SYSCTLS)
    # Once it is 2, nothing tells any more that it was set for this.
    return kept if kept and set(lines) <= set(kept.splitlines()) else "\n".join(lines) + "\n"


def _file(path: Path, text: str, mode: int) -> FileChange:
    return FileChange(str(path), read_text(path), text, mode)


def _notes(server: Server, facts: Facts) -> Iterator[str]:
    kept = {Service(Protocol.TCP, each, each) for each in server.settings.ssh or ()} | {_udp(server.port)} | _CLIENTS
    lost = [
        each
        for each in facts.listeners
        if each.service not in kept and not any(_within(each.service, opened) for opened in server.settings.opened)
    ]
    if lost:
        words = ", ".join(map(str, lost))
        yield f"listens now, and will not be reached from outside any more: {words} (--open {lost[0].service} keeps it)"
    yield from (words for each in server.networks if (words := doubt(each)))
    if facts.others:
        yield (
            f"{', '.join(facts.others)} judges what comes in or is forwarded too, and what it drops is dropped: "
            f"let it pass UDP {int(server.port)}, and what comes from {server.interface}"
        )
    if not facts.has_ipv6:
        yield "no IPv6 here: peers reach the Internet by IPv4; their IPv6 comes into the tunnel all the same, and is refused here"
    if not facts.with_systemd:
        yield "systemd does not run here: nothing of this is there after a reboot"


def _within(service: Service, other: Service) -> bool:
    return service.protocol is other.protocol and other.low <= service.low and service.high <= other.high

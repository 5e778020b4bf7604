"""Finds the tunnel that `failshut init` adopts: by a config's path, by an interface's name, or as it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from failshut.config import addresses, values
from failshut.config.declaration import Unreadable, Unresolved
from failshut.config.draft import Pin
from failshut.config.formats.recognise import read_tunnel
from failshut.config.formats.tunnel_config import TunnelConfig
from failshut.config.mistake import Mistake, shown, string
from failshut.host.network.surroundings import interface_addresses
from failshut.host.run import NOT_FOUND, run
from failshut.host.sources import companions, lookup, read_limited
from failshut.host.tunnels import openvpn
from failshut.host.tunnels.managers import Manager, manager_of
from failshut.host.tunnels.wireguard import parse_dump
from failshut.model.finding import Finding
from failshut.model.policy import TunnelKind
from failshut.model.running import RunningTunnel
from failshut.model.units import Endpoint, InterfaceAddress, InterfaceName, Mark, NamedEndpoint, Protocol

CONFIG_DIRECTORY = Path("/etc/wireguard")
INTERFACES = Path("/sys/class/net")
_NETWORK_MANAGER = ("/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections")
# Where the other programs keep theirs: what may be a tunnel's config is read, and its interface's name counts.
ELSEWHERE = (
    *((Path(each), "*.nmconnection") for each in _NETWORK_MANAGER),
    (Path("/etc/systemd/network"), "*.netdev"),
    (Path("/run/systemd/network"), "*.netdev"),
    (Path("/etc/openvpn/client"), "*.conf"),
    (Path("/etc/openvpn"), "*.conf"),
)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A tunnel to write a policy for.

    `pins`, `fwmark` and `addresses` are what the policy must say itself, because no config says it; `endpoints` and `own` are all
    that is known, to keep the LAN off them.
    """

    name: InterfaceName
    config: str | None
    endpoints: tuple[Endpoint, ...]
    own: tuple[InterfaceAddress, ...]
    pins: tuple[Pin, ...] = ()
    fwmark: Mark | None = None
    addresses: tuple[InterfaceAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config where its program looks for it, and the interface that it makes."""

    path: Path
    interface: str
    kind: TunnelKind = TunnelKind.WG_QUICK


@dataclass(frozen=True, slots=True)
class Candidates:
    """What there is to adopt. `hidden` says that /etc/wireguard can't be listed without root."""

    files: tuple[ConfigFile, ...]
    running: tuple[str, ...]
    hidden: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, those with a config first."""
        return tuple(dict.fromkeys((*(each.interface for each in self.files), *self.running)))

    def __str__(self) -> str:
        found = [str(each.path) for each in self.files]
        found += [f"{each} (running)" for each in self.running if each not in {file.interface for file in self.files}]
        return ", ".join(found)

    @property
    def hint(self) -> str:
        """What to do when the wanted tunnel is not there."""
        if self.hidden:
            return f"{CONFIG_DIRECTORY} can only be listed by root: sudo failshut init …"
        if self.names:
            return f"what can be adopted here: {self}"
        return "name your provider's config by its path: failshut init ./wg0.conf, or ./provider.ovpn"


class CantAdoptError(Exception):
    """There is nothing to adopt, or not this: the reason, what to do (`help`), whether root could (`denied`), or `findings`."""

    def __init__(self, message: str, help: str = "", *, denied: bool = False, findings: Sequence[Finding] = ()) -> None:  # noqa: A002
        super().__init__(message)
        self.help = help
        self.denied = denied
        self.findings = tuple(findings)


def candidates() -> Candidates:
    """Return the configs where their programs look for them, and the running WireGuard interfaces."""
    hidden = False
    files: list[ConfigFile] = []
    try:
        listed = sorted(each for each in CONFIG_DIRECTORY.iterdir() if each.suffix == ".conf")
        files = [ConfigFile(each, each.stem) for each in listed]
    except PermissionError:
        hidden = True
    except OSError:
        pass
    answer = run(["wg", "show", "interfaces"])
    return Candidates((*files, *_elsewhere()), tuple(answer.out.split()) if answer.ok else (), hidden)


def _elsewhere() -> Iterator[ConfigFile]:
    """Yield the tunnels' configs of the other programs; a file that is none, or has mistakes, is passed by."""
    for directory, pattern in ELSEWHERE:
        for path in sorted(directory.glob(pattern)):
            raw = read_limited(str(path))
            config = read_tunnel(raw, str(path), companions(str(path))) if isinstance(raw, bytes) else None
            if isinstance(config, TunnelConfig) and config.kind is not TunnelKind.WG_QUICK:
                yield ConfigFile(path, config.interface, config.kind)


def adopt(wanted: str | None) -> Adopted:
    """Return the tunnel `wanted`, a name or a path; None takes the only candidate. Raises CantAdoptError."""
    if wanted is None:
        return _by_name(_only_candidate())
    if "/" in wanted or wanted.endswith((".conf", ".ovpn", ".netdev", ".nmconnection")):
        return _from_file(Path(wanted))
    return _by_name(wanted)


def _only_candidate() -> str:
    found = candidates()
    if len(found.names) == 1:
        return found.names[0]
    if found.hidden:
        raise CantAdoptError(
            f"{CONFIG_DIRECTORY} can only be listed by root", "sudo failshut init, or name a config's path", denied=True
        )
    if not found.names:
        raise CantAdoptError(
            f"there is no config in {CONFIG_DIRECTORY} and no WireGuard interface is running",
            "put your provider's file there as wg0.conf, or name its path: failshut init ./wg0.conf",
        )
    raise CantAdoptError(f"there is more than one tunnel: {found}", f"name the one to adopt: failshut init {found.names[0]}")


def _by_name(name: str) -> Adopted:
    try:
        values.tunnel_name(name)
    except Mistake as wrong:
        raise CantAdoptError(wrong.message, wrong.help) from None
    # Who has brought it up has the last word: of two configs, the one that is in use.
    running = _config_in_use(name)
    if running is not None:
        return _from_file(running, name)
    path = CONFIG_DIRECTORY / f"{name}.conf"
    raw = read_limited(str(path))
    if isinstance(raw, bytes):
        return _from_file(path)
    known = next((each.path for each in _elsewhere() if name in (each.interface, each.path.stem)), None)
    if known is not None:
        return _from_file(known)
    tunnel = _running(name)
    if tunnel is not None:
        return _from_running(tunnel)
    if raw.denied:
        raise CantAdoptError(f"{path} can only be read by root", f"sudo failshut init {name}", denied=True)
    if (INTERFACES / name).exists():
        raise CantAdoptError(
            f"{name} is an interface, but not WireGuard's, and {path} does not exist",
            f'write [tunnel.{name}] with endpoints = ["ADDRESS:PORT"] by hand; docs/reference/policy.md has an example',
        )
    raise CantAdoptError(f"there is neither {path} nor a running interface '{name}'", candidates().hint)


def _config_in_use(name: str) -> Path | None:
    """Return the config of a running interface that wg-quick did not make; None where that is not known."""
    try:
        index = (INTERFACES / name / "ifindex").read_text().strip()
    except OSError:
        return None
    kinds = {Manager.NETWORK_MANAGER: TunnelKind.NETWORK_MANAGER, Manager.NETWORKD: TunnelKind.NETWORKD}
    manager = manager_of(index)
    if manager is not None:
        return next((each.path for each in _elsewhere() if each.interface == name and each.kind is kinds[manager]), None)
    running = openvpn.running(name)
    return Path(running.config) if running and running.config else None


def _from_file(path: Path, running_as: str = "") -> Adopted:
    where = str(path.absolute())
    raw = read_limited(where)
    if isinstance(raw, Unreadable):
        _file_name(path)
        remedy = f"sudo failshut init {path}" if raw.denied else raw.help or candidates().hint
        raise CantAdoptError(f"{path} can't be read: {raw.why}", remedy, denied=raw.denied)
    config = read_tunnel(raw, where, companions(where))
    if isinstance(config, list):
        _file_name(path)
        raise CantAdoptError(f"{path} has mistakes", findings=config)
    # `dev tun` is a running tun1 where tun0 was taken.
    name = _name_of(path, running_as or config.interface, config.kind)
    given = [each.site for each in config.remotes]
    if not given:
        raise CantAdoptError(*_NO_SERVER[config.kind](path))
    pins = _pin(given)
    named = any(isinstance(each, NamedEndpoint) for each in given)
    return Adopted(
        name=name,
        config=where,
        endpoints=tuple(each.endpoint for each in pins),
        own=tuple(each.value for each in config.addresses),
        pins=pins if named else (),
    )


_NO_SERVER: dict[TunnelKind, Callable[[Path], tuple[str, str]]] = {
    TunnelKind.WG_QUICK: lambda path: (f"no [Peer] of {path} has an Endpoint", "add the server's: Endpoint = ADDRESS:PORT"),
    TunnelKind.NETWORKD: lambda path: (f"no [WireGuardPeer] of {path} has an Endpoint", "add the server's: Endpoint=ADDRESS:PORT"),
    TunnelKind.NETWORK_MANAGER: lambda path: (f"no peer of {path} has an endpoint", "add the server's: endpoint=ADDRESS:PORT"),
    TunnelKind.OPENVPN: lambda path: (f"{path} has no remote", "add the server: remote ADDRESS PORT"),
}


def _file_name(path: Path) -> None:
    """Refuse a path that a policy can't name."""
    try:
        string(str(path.absolute()))
        str(path.absolute()).encode()
    except (Mistake, UnicodeEncodeError):
        message = f"{shown(path.name)} can't be the config of an interface"
        raise CantAdoptError(message, "rename it, such as wg0.conf") from None


def _name_of(path: Path, name: str, kind: TunnelKind) -> InterfaceName:
    _file_name(path)
    try:
        return values.tunnel_name(name)
    except Mistake as wrong:
        if kind is not TunnelKind.WG_QUICK:
            raise CantAdoptError(f"{path}: {wrong.message}", wrong.help) from None
        help_text = "wg-quick names the interface after the file: rename it, such as wg0.conf"
        raise CantAdoptError(f"{shown(path.name)} can't be the config of an interface", help_text) from None


def _pin(given: Sequence[Endpoint | NamedEndpoint]) -> tuple[Pin, ...]:
    """Turn every endpoint into addresses; all of a name's, because the provider may answer with any of them."""
    found = lookup(each.host for each in given if isinstance(each, NamedEndpoint))
    pins: dict[Pin, None] = {}
    for each in given:
        if isinstance(each, Endpoint):
            pins[Pin(each)] = None
            continue
        answer = found[each.host]
        if isinstance(answer, Unresolved) or not answer:
            why = answer.why if isinstance(answer, Unresolved) else "it has no address"
            raise CantAdoptError(
                f"the endpoint's host name '{each.host}' does not resolve: {why}",
                f"try again with the network up, or write the address into the config: Endpoint = ADDRESS:{int(each.port)}",
            )
        pins |= {Pin(Endpoint(address, each.port, each.protocol), each.host): None for address in answer}
    return tuple(pins)


def _running(name: str) -> RunningTunnel | None:
    answer = run(["wg", "show", "all", "dump"])
    if answer.code == NOT_FOUND and (INTERFACES / name).exists():
        remedy = "apt install wireguard-tools, or name a config's path"
        raise CantAdoptError(f"{name} exists, but wg is not installed: what it is can't be asked", remedy)
    if "not permitted" in answer.err.lower() and name in run(["wg", "show", "interfaces"]).out.split():
        raise CantAdoptError(f"{name} runs, but only root may ask for its endpoints", f"sudo failshut init {name}", denied=True)
    return parse_dump(answer.out, now=0).get(name)


def _from_running(tunnel: RunningTunnel) -> Adopted:
    name = tunnel.interface
    pins = dict.fromkeys(Pin(each) for each in (_endpoint(peer.endpoint) for peer in tunnel.peers) if each)
    if not pins:
        raise CantAdoptError(f"{name} runs, but no peer of it has an endpoint yet", "connect it first, or name its config's path")
    addresses = interface_addresses(name)
    endpoints = tuple(each.endpoint for each in pins)
    return Adopted(InterfaceName(name), None, endpoints, addresses, tuple(pins), tunnel.fwmark, addresses)


def _endpoint(text: str) -> Endpoint | None:
    """Read an endpoint as wg prints it: `address:port`, `[v6]:port`, or nothing."""
    host, _, port = text.rpartition(":")
    try:
        found = addresses.site(host.strip("[]"), port, Protocol.UDP)
    except Mistake:
        return None
    return found if isinstance(found, Endpoint) else None

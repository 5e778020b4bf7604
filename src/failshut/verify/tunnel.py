"""How a tunnel is up, so that it can be taken down, crashed, and brought back the same way."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from failshut.host.network.links import all_links, received
from failshut.host.network.listed import listed
from failshut.host.run import Result, run
from failshut.host.tunnels import openvpn
from failshut.host.tunnels.managers import Manager, manager_of
from failshut.host.tunnels.openvpn import holders_of
from failshut.host.tunnels.wireguard import fwmark_of, running_tunnels, set_fwmark
from failshut.model.policy import Policy, Tunnel, TunnelKind
from failshut.model.running import SESSION_LASTS
from failshut.model.units import Mark
from failshut.verify.probes import FAR, echo_request

# Hooks may take their time; a unit has systemd's own deadline of 90 s.
_PATIENCE = 120.0
# In seconds: until an interface is there, and how often is looked.
_COMES_UP, _LOOK = 20.0, 0.05
# Where nobody listens.
_TRACEROUTE = 33434
_SAVES = re.compile(r"^\s*SaveConfig\s*=\s*true\b", re.IGNORECASE | re.MULTILINE)


class Way(StrEnum):
    """What brought a tunnel up."""

    UNIT = "systemd's unit"
    QUICK = "wg-quick"
    NETWORK_MANAGER = "NetworkManager"
    NETWORKD = "systemd-networkd"
    OPENVPN = "openvpn"
    OTHER = "something else"


# How each is told to take down, or to bring up, what stands behind the words.
_DOWN = {
    Way.UNIT: ("systemctl", "stop"),
    Way.QUICK: ("wg-quick", "down"),
    Way.NETWORK_MANAGER: ("nmcli", "connection", "down", "uuid"),
    Way.NETWORKD: ("networkctl", "delete"),
}
_UP = {
    Way.UNIT: ("systemctl", "restart"),
    Way.QUICK: ("wg-quick", "up"),
    Way.NETWORK_MANAGER: ("nmcli", "connection", "up", "uuid"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A tunnel that is up: what brought it up, and how it was.

    `handle` is by what its way knows it: a config's path, a unit's name, a connection's UUID, the device. `kernel` is False for a
    program's tunnel; `why_not` is the reason it must not be taken apart, "" when it may be.
    """

    name: str
    way: Way
    kernel: bool
    handle: str = ""
    mark: Mark | None = None
    why_not: str = ""
    wireguard: bool = True
    # How a bare OpenVPN was started, and where.
    command: tuple[str, ...] = ()
    directory: str = ""

    @property
    def by(self) -> str:
        """What brought it up, in words."""
        return f"{self.way} {self.handle}" if self.way is Way.UNIT else str(self.way)


def standing(policy: Policy) -> tuple[Standing, ...]:
    """Return the policy's tunnels that are up now."""
    links = {link["ifname"]: link for link in all_links()}
    return tuple(_standing(each, links[each.interface]) for each in policy.tunnels if each.interface in links)


def _standing(tunnel: Tunnel, link: dict[str, object]) -> Standing:
    name = str(tunnel.interface)
    info = link.get("linkinfo")
    kernel = isinstance(info, dict) and info.get("info_kind") == "wireguard"
    if tunnel.kind is TunnelKind.OPENVPN:
        found = _openvpn(name)
    else:
        way, handle = _way(tunnel, str(link.get("ifindex", "")))
        found = Standing(name, way, kernel, handle, fwmark_of(name))
    return replace(found, why_not=_why_not(tunnel, found))


def _openvpn(name: str) -> Standing:
    running = openvpn.running(name)
    way = Way.OTHER if running is None else Way.UNIT if running.unit else Way.OPENVPN
    found = Standing(name, way, kernel=False, wireguard=False)
    if running is None:
        return found
    return replace(found, handle=running.unit or running.config, command=running.argv, directory=running.directory)


def _way(tunnel: Tunnel, index: str) -> tuple[Way, str]:
    name = str(tunnel.interface)
    manager = manager_of(index)
    if manager is Manager.NETWORK_MANAGER:
        shown = run(["nmcli", "--get-values", "GENERAL.CON-UUID", "device", "show", name])
        return (Way.NETWORK_MANAGER, shown.out.strip()) if shown.ok and shown.out.strip() else (Way.OTHER, "")
    if manager is Manager.NETWORKD:
        return (Way.NETWORKD, name) if tunnel.kind is TunnelKind.NETWORKD else (Way.OTHER, "")
    config = tunnel.config or f"/etc/wireguard/{name}.conf"
    if name not in running_tunnels() or not Path(config).is_file():
        return Way.OTHER, ""
    unit = f"wg-quick@{name}.service"
    if run(["systemctl", "is-active", "--quiet", unit]).ok:
        return Way.UNIT, unit
    if not _is_wg_quicks(config):
        return Way.OTHER, ""
    return Way.QUICK, str(Path(config).absolute())


def _is_wg_quicks(config: str) -> bool:
    """Whether wg-quick could bring a tunnel up by this file; without an address it is one for `wg setconf`."""
    try:
        return bool(re.search(r"^\s*Address\s*=", Path(config).read_text(errors="replace"), re.IGNORECASE | re.MULTILINE))
    except OSError:
        # Why it can't be read is said where it is looked into.
        return True


def _why_not(tunnel: Tunnel, found: Standing) -> str:
    if found.way is Way.OTHER:
        return "neither wg-quick, OpenVPN nor a network manager brought it up, so failshut can't promise to bring it back"
    config = tunnel.config or found.handle
    if tunnel.named_endpoints:
        return f"{config} names its server by a name: with the lock on it could not be looked up to bring the tunnel back"
    if tunnel.kind is not TunnelKind.WG_QUICK:
        return ""
    try:
        text = Path(tunnel.config or f"/etc/wireguard/{found.name}.conf").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{config} can't be read: {error.strerror}"
    return f"{config} says SaveConfig: taking the tunnel down would rewrite that file" if _SAVES.search(text) else ""


def is_there(name: str) -> bool:
    """Whether an interface exists now."""
    return Path("/sys/class/net", name).exists() or any(link["ifname"] == name for link in all_links())


def carries(tunnel: Standing, before: int) -> bool:
    """Whether a tunnel's server answers: by a fresh handshake; where there is none to see, by anything that has come in.

    `before` is what had come in when that was first asked (`host.links.received`).
    """
    if not tunnel.wireguard:
        _provoke(tunnel.name)
        return received(tunnel.name) > before
    running = running_tunnels().get(tunnel.name)
    age = running.handshake_age if running else None
    return age is not None and age <= SESSION_LASTS


def _provoke(name: str) -> None:
    """Ask for an answer through a tunnel: an echo of its gateway's, and the error message for what is behind it.

    Gateways may not answer echoes; errors are limited in rate.
    """
    for gateway in _gateways(name):
        is_six = ":" in gateway
        message = echo_request(6 if is_six else 4, b"failshut verify")
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if is_six else (socket.AF_INET, socket.IPPROTO_ICMP)
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_RAW, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
            sock.sendto(message, (gateway, 0))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        # The hop limit ends it at the server.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        sock.sendto(b"", (str(FAR[4]), _TRACEROUTE))


def _gateways(name: str) -> list[str]:
    """Return the addresses that a tunnel's routes lead by, and the other end of a point-to-point one."""
    routes = [*listed("route", "show", "dev", name), *listed("-6", "route", "show", "dev", name)]
    entries = [each for link in listed("addr", "show", "dev", name) for each in link.get("addr_info", ())]
    peers = [each["address"] for each in entries if "address" in each]
    return list(dict.fromkeys([*(each["gateway"] for each in routes if "gateway" in each), *peers]))


def take_down(tunnel: Standing) -> Result:
    """Take a tunnel down as its user would."""
    if tunnel.way is Way.OPENVPN:
        return _end_processes(tunnel, signal.SIGTERM)
    return _act(*_DOWN[tunnel.way], tunnel.handle)


def crash(tunnel: Standing) -> str:
    """Let a tunnel die without a word: its interface deleted, or its process killed. Return "" or why it could not be done."""
    if tunnel.kernel:
        result = _act("ip", "link", "delete", "dev", tunnel.name)
        return "" if result.ok else result.complaint
    result = _end_processes(tunnel, signal.SIGKILL)
    return "" if result.ok else result.complaint


def _end_processes(tunnel: Standing, how: signal.Signals) -> Result:
    holders = list(holders_of(tunnel.name))
    for process in holders:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, how)
    return Result((), 0 if holders else 1, "", "" if holders else f"no process holds {tunnel.name}")


def bring_back(tunnel: Standing, *, crashed: bool) -> str:
    """Bring a tunnel up the way it was; from whatever state it is in. Return "" or what was said."""
    if crashed and tunnel.wireguard and tunnel.way in (Way.UNIT, Way.QUICK) and not is_there(tunnel.name):
        _stand_in(tunnel)
    result = _bring_up(tunnel)
    if not result.ok:
        return result.complaint
    if tunnel.wireguard and tunnel.mark is not None and fwmark_of(tunnel.name) is None:
        set_fwmark(tunnel.name, tunnel.mark)
    # A manager, or a daemon, makes the interface in its own time.
    end = time.monotonic() + _COMES_UP
    while not is_there(tunnel.name) and time.monotonic() < end:
        select.select([], [], [], _LOOK)
    return "" if is_there(tunnel.name) else f"{tunnel.name} is not there"


def _bring_up(tunnel: Standing) -> Result:
    if tunnel.way is Way.NETWORKD:
        # It makes what its files name and is not there.
        return _act("networkctl", "reload")
    if tunnel.way is Way.OPENVPN:
        if list(holders_of(tunnel.name)):
            return Result((), 0, "", "")
        # As it was started, but never on this terminal.
        return _act(*tunnel.command, *(() if "--daemon" in tunnel.command else ("--daemon",)), directory=tunnel.directory)
    if tunnel.way is Way.QUICK and is_there(tunnel.name):
        _act(*_DOWN[Way.QUICK], tunnel.handle)
    return _act(*_UP[tunnel.way], tunnel.handle)


def _stand_in(tunnel: Standing) -> None:
    """Make the dead tunnel's interface again, so that `wg-quick down` clears away what it left: rules, routes, the resolver.

    wg-quick looks at the interface's mark and allowed addresses to know what to remove, and it would refuse to come up over
    what is left.
    """
    if not (tunnel.kernel and _act("ip", "link", "add", "dev", tunnel.name, "type", "wireguard").ok):
        _act(os.environ.get("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go"), tunnel.name)
    stripped = run(["wg-quick", "strip", _config_of(tunnel)])
    run(["wg", "setconf", tunnel.name, "/dev/stdin"], stdin=stripped.out)
    if tunnel.mark is not None:
        set_fwmark(tunnel.name, tunnel.mark)


def _config_of(tunnel: Standing) -> str:
    return f"/etc/wireguard/{tunnel.name}.conf" if tunnel.way is Way.UNIT else tunnel.handle


def _act(*argv: str, directory: str | None = None) -> Result:
    return run(argv, timeout=_PATIENCE, own_group=True, directory=directory)

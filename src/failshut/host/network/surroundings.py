"""What lies around this machine that a new policy may offer: the local network, and the SSH session it is written from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from failshut.config.draft import LanOffer, SshOffer, TailscaleOffer
from failshut.host.network.listed import listed
from failshut.model.policy import TAILSCALE_INTERFACE
from failshut.model.units import Address, InterfaceAddress, Port, Prefix

# RFC 1918 and ULA. Not 100.64.0.0/10: that is the provider's side of a carrier's NAT.
_ADOPTABLE = tuple(ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
# A process tree is never deeper; a loop in /proc would be a kernel's bug, but not our hang.
_MOST_ANCESTORS = 64


@dataclass(frozen=True, slots=True)
class Lan:
    """The network around the default route: the offer, if there is one, and what was left out, each with its reason."""

    offer: LanOffer | None
    left_out: tuple[str, ...] = ()


def interface_addresses(name: str) -> tuple[InterfaceAddress, ...]:
    """Return an interface's addresses, without link-local ones."""
    found = (address for device in listed("addr", "show", "dev", name) for address in _addresses(device))
    return tuple(each for each in found if not each.ip.is_link_local)


def local_network(tunnels: Iterable[str], avoid: Iterable[Address]) -> Lan:
    """Return the private networks on the default route's interface.

    `tunnels` are interfaces that are no underlay. A network that holds one of `avoid` (endpoints and tunnel addresses) is left
    out, and so is a public one: a hostile Wi-Fi that hands out public addresses would draw their traffic out of the tunnel.
    """
    name = _default_interface(frozenset(tunnels))
    if name is None:
        return Lan(None)
    prefixes: list[Prefix] = []
    left_out: list[str] = []
    avoided = list(avoid)
    for address in interface_addresses(name):
        network = address.network
        if not _is_private(network):
            left_out.append(f"{network} at {name} is not private: never taken for a LAN on its own; add it by hand if it is yours")
        elif any(each in network for each in avoided):
            left_out.append(
                f"{network} at {name} holds an endpoint or the tunnel's own address; name the prefixes around it by hand"
            )
        elif network not in prefixes and network.prefixlen < network.max_prefixlen:
            prefixes.append(network)
    return Lan(LanOffer(name, tuple(prefixes)) if prefixes else None, tuple(dict.fromkeys(left_out)))


def _is_private(network: Prefix) -> bool:
    return any(network.version == each.version and network.subnet_of(each) for each in _ADOPTABLE)  # type: ignore[arg-type]  # versions agree


def _default_interface(tunnels: frozenset[str]) -> str | None:
    """Return the interface of the default route with the lowest metric, IPv4's before IPv6's."""
    for family in ("-4", "-6"):
        routes = [each for each in listed(family, "route", "show", "default") if each.get("dev") not in (None, *tunnels)]
        if routes:
            return str(min(routes, key=lambda each: each.get("metric", 0))["dev"])
    return None


def ssh_session(inside: Iterable[Address]) -> SshOffer | None:
    """Return the SSH session this program runs in, also under sudo; None without one, or when it came in by the tunnel.

    `inside` are the tunnel's own addresses.
    """
    words = _ssh_connection().split()
    try:
        client, server, port = _plain(words[0]), _plain(words[2]), Port(int(words[3]))
    except (IndexError, ValueError):
        return None
    return None if server in set(inside) else SshOffer(port, _client_network(client))


def tailscale_here(inside: Iterable[Address]) -> TailscaleOffer | None:
    """Return whether Tailscale runs here, and carries the session this program runs in. `inside` are the tunnel's own addresses."""
    own = tuple(each.ip for each in interface_addresses(TAILSCALE_INTERFACE))
    if not own:
        return None
    known = tuple(inside)
    return TailscaleOffer(ssh_session(known) is not None and ssh_session((*known, *own)) is None)


def is_over_ssh() -> bool:
    """Whether this program runs in an SSH session, also under sudo."""
    return bool(_ssh_connection())


def _plain(text: str) -> Address:
    """Read an address of SSH_CONNECTION: without its scope, and IPv4 out of its IPv6 clothes."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _client_network(client: Address) -> Prefix:
    """Return the private on-link network the client is in, else the client alone."""
    for device in listed("addr"):
        for address in _addresses(device):
            if client in address.network and _is_private(address.network):
                return address.network
    return ip_network(client)


def _ssh_connection() -> str:
    """Return SSH_CONNECTION; sudo removes it, so the ancestors' environments are asked too."""
    here = os.environ.get("SSH_CONNECTION", "")
    return here or next((found for found in map(_environment, _ancestors()) if found), "")


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    for _ in range(_MOST_ANCESTORS):
        if pid <= 1:
            return
        yield pid
        try:
            # The name in parentheses may hold anything, so fields are counted from behind it.
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return


def _environment(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    prefix = b"SSH_CONNECTION="
    return next((each[len(prefix) :].decode(errors="replace") for each in raw.split(b"\0") if each.startswith(prefix)), "")


def _addresses(device: dict[str, Any]) -> Iterator[InterfaceAddress]:
    for each in device.get("addr_info", ()):
        if "local" in each and "prefixlen" in each and each.get("scope") != "host":
            yield ip_interface(f"{each['local']}/{each['prefixlen']}")

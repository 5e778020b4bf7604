"""The machine as the judge must know it: its addresses, what is on its links, and which device is stacked on which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from typing import Any

from failshut.drill.judgement.judge import Case, Connection, explain
from failshut.host.network.links import all_links, underlay_devices
from failshut.host.network.listed import listed
from failshut.host.network.routes import on_link
from failshut.host.run import run
from failshut.model.marks import TAILSCALE, TAILSCALE_MASK
from failshut.model.packet import ETHERTYPE_EAPOL, TCP, UDP, Packet
from failshut.model.policy import TAILSCALE_INTERFACE, Policy
from failshut.model.units import Address, Prefix

_MARKED = re.compile(r"\bfwmark:(0x[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Device:
    """An underlay device: `carrying` when frames can leave by it now, `ethernet` when its frames have an Ethernet header."""

    name: str
    mac: str
    carrying: bool
    ethernet: bool


@dataclass(frozen=True, slots=True)
class Ground:
    """The underlay as it is now. `above` names, for a device, those whose frames leave by it too: a bridge over its port."""

    devices: tuple[Device, ...]
    own: dict[str, frozenset[Address]] = field(default_factory=dict)
    links: dict[str, frozenset[Prefix]] = field(default_factory=dict)
    above: dict[str, tuple[str, ...]] = field(default_factory=dict)
    gateways: tuple[tuple[Address, str], ...] = ()
    # tailscaled's sockets, by protocol and port.
    tailscaled: frozenset[tuple[int, int]] = frozenset()

    def device(self, name: str) -> Device | None:
        """Return the device of that name, or None."""
        return next((each for each in self.devices if each.name == name), None)


def survey(policy: Policy) -> Ground:
    """Ask the machine which of its devices are underlay for that policy, and what lies on them."""
    inside = {str(each) for each in policy.interfaces}
    links = all_links()
    names = [str(each) for each in underlay_devices(links, inside, policy.forward.bridges)]
    by_name = {link["ifname"]: link for link in links}
    return Ground(
        devices=tuple(_device(by_name[name]) for name in names),
        own={name: frozenset(each.ip for each in _addresses(name)) for name in names},
        links={name: frozenset(_links(name)) for name in names},
        above=stacked(links),
        gateways=tuple(dict.fromkeys(each for version in (4, 6) for each in _gateways(version, inside))),
        tailscaled=_tailscaled() if TAILSCALE_INTERFACE in inside else frozenset(),
    )


def joined(before: Ground, after: Ground) -> Ground:
    """Return `after` with the addresses and prefixes of `before`: a lease may change while the machine is watched."""
    names = {*before.own, *after.own}
    own = {name: before.own.get(name, frozenset()) | after.own.get(name, frozenset()) for name in names}
    links = {name: before.links.get(name, frozenset()) | after.links.get(name, frozenset()) for name in names}
    return replace(after, own=own, links=links, tailscaled=before.tailscaled | after.tailscaled)


def stacked(links: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return, for each device of `ip -j -d link`, the devices above it: its bridge or bond, its VLANs, and theirs."""
    over: dict[str, set[str]] = {}
    for link in links:
        if "master" in link:
            over.setdefault(link["ifname"], set()).add(link["master"])
        # A veth names its peer there; only these kinds send by the device that they name.
        if link.get("linkinfo", {}).get("info_kind") in ("vlan", "macvlan", "ipvlan", "macsec") and "link" in link:
            over.setdefault(link["link"], set()).add(link["ifname"])
    return {name: tuple(sorted(_closure(name, over))) for name in over}


def _closure(name: str, over: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = over.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found - {name}


def explain_here(
    packet: Packet, device: str, policy: Policy, ground: Ground, connections: frozenset[Connection] = frozenset()
) -> str | None:
    """Return the allowance that explains a packet on a real device, or None: a leak.

    As the drill's judge does, with what a real machine has beside: a supplicant whose frames nobody else knows, and stacked
    devices, where the lower one carries the upper one's packets.
    """
    if packet.ethertype in ETHERTYPE_EAPOL and not packet.vlans and not packet.malformed:
        return "eapol"
    case = Case(policy, ground.own, connections, ground.links, tailscaled=ground.tailscaled)
    name = explain(packet, device, case)
    if name is not None:
        return name
    inner = replace(packet, vlans=())
    for upper in ground.above.get(device, ()):
        moved = frozenset(replace(each, device=upper) for each in connections)
        name = explain(inner, upper, replace(case, connections=moved))
        if name is not None:
            return name
    return None


def _device(link: Mapping[str, Any]) -> Device:
    flags = link.get("flags", ())
    ethernet = link.get("link_type") == "ether" and "NOARP" not in flags
    return Device(link["ifname"], link.get("address", ""), "UP" in flags and "LOWER_UP" in flags, ethernet)


def _addresses(name: str) -> list[Any]:
    entries = [each for link in listed("addr", "show", "dev", name) for each in link.get("addr_info", ())]
    return [ip_interface(f"{each['local']}/{each['prefixlen']}") for each in entries if "local" in each]


def _links(name: str) -> list[Prefix]:
    """Return the prefixes on a device's link; one of SLAAC is in no address' own network."""
    return [*(each.network for each in _addresses(name)), *(prefix for prefix, _ in on_link(name))]


def _gateways(version: int, inside: set[str]) -> list[tuple[Address, str]]:
    routes = [each for each in listed(f"-{version}", "route", "show", "default") if each.get("dev") not in inside]
    return [(ip_address(each["gateway"]), each["dev"]) for each in routes if "gateway" in each and "dev" in each]


def _tailscaled() -> frozenset[tuple[int, int]]:
    """Return protocol and local port of root's sockets that bear tailscaled's mark; only root is told of marks."""
    found = set()
    for protocol, flag in ((TCP, "-t"), (UDP, "-u")):
        for line in run(["ss", "-Hane", flag]).out.splitlines():
            mark = _MARKED.search(line)
            local = line.split()[3].rpartition(":")[2] if mark else ""
            if mark and int(mark[1], 16) & TAILSCALE_MASK == TAILSCALE and " uid:" not in line and local.isdigit():
                found.add((protocol, int(local)))
    return frozenset(found)

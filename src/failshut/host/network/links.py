"""The machine's network devices, and which of them the layer under IP must guard. Small, because `status` asks it too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from failshut.host.network.listed import listed
from failshut.model.units import InterfaceName

# Devices that can't carry a frame off the machine.
_NOWHERE = frozenset({"dummy", "ifb", "netdevsim", "nlmon", "vcan", "vxcan"})
# A modem's device carries bare packets as a tunnel's does, and is named by its kind where it has one; other hardware has none.
_HARDWARE = frozenset({"", "rmnet", "wwan"})
# A guest's or container's end of a bridge: frames there come from the machine's side of the cable, not from its outside.
_GUEST_PORTS = frozenset({"veth", "tun"})


def underlay_now(tunnels: Iterable[str], bridges: Iterable[str]) -> tuple[InterfaceName, ...]:
    """Return the underlay devices that are there now, of a machine with these tunnels and these patterns of local bridges."""
    return underlay_devices(all_links(), set(tunnels), bridges)


def underlay_devices(
    links: Iterable[Mapping[str, Any]], tunnels: Collection[str], bridges: Iterable[str] = (), routed: Collection[str] = ()
) -> tuple[InterfaceName, ...]:
    """Return the devices of `ip -j -d link` that the layer under IP must guard.

    A bridge that fits one of the patterns and has no port to the outside is part of the machine. What has only the name of
    a `routed` tunnel is none. A device whose name nft can't say is left out: the choke point still refuses what leaves by it.
    """
    links = list(links)
    patterns, uplinked = tuple(bridges), _with_an_uplink(links)
    tunnels = set(tunnels).difference(impostors(links, routed))
    found = []
    for link in links:
        name = link["ifname"]
        local = _kind(link) == "bridge" and name not in uplinked and any(fnmatchcase(name, each) for each in patterns)
        if _leads_nowhere(link) or name in tunnels or local:
            continue
        if _can_be_said(name):
            found.append(InterfaceName(name))
    return tuple(found)


def called_bridges(underlay: Iterable[InterfaceName], bridges: Iterable[str]) -> tuple[InterfaceName, ...]:
    """Return the underlay devices that are called as local bridges are: a bridge with an uplink, a VLAN of one (br-lan.5)."""
    patterns = tuple(bridges)
    return tuple(name for name in underlay if any(fnmatchcase(name, each) for each in patterns))


def impostors(links: Iterable[Mapping[str, Any]], routed: Collection[str]) -> tuple[str, ...]:
    """Return the cards and modems that only have the name of a tunnel of bare packets: everything may leave by that name."""
    named = (link for link in links if link["ifname"] in routed)
    return tuple(link["ifname"] for link in named if link.get("link_type") != "none" or _kind(link) in _HARDWARE)


def _with_an_uplink(links: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the devices with a port that can carry a frame off the machine."""
    return {str(link["master"]) for link in links if "master" in link and not _leads_nowhere(link)}


def _kind(link: Mapping[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _leads_nowhere(link: Mapping[str, Any]) -> bool:
    guest = _kind(link) in _GUEST_PORTS and link.get("linkinfo", {}).get("info_slave_kind") == "bridge"
    return "LOOPBACK" in link.get("flags", ()) or _kind(link) in _NOWHERE or guest


def _can_be_said(name: str) -> bool:
    # A name that is no UTF-8 has become another on its way here; a comma stands between two names of one chain.
    if "," in name or "\N{REPLACEMENT CHARACTER}" in name:
        return False
    try:
        InterfaceName(name)
    except ValueError:
        return False
    return True


def all_links() -> list[dict[str, Any]]:
    """Return `ip -j -d link show`; empty when ip does not answer."""
    return listed("-d", "link", "show")


def received(name: str) -> int:
    """Return the bytes that an interface has taken in; 0 for one that is not there."""
    return traffic(name)[0]


def traffic(name: str) -> tuple[int, int]:
    """Return the bytes that an interface has taken in and given out since it is there; zeros for one that is not."""
    lines = (line.partition(":") for line in Path("/proc/net/dev").read_text(errors="replace").splitlines())
    counted = next((words.split() for label, _, words in lines if label.strip() == name), None)
    # proc(5): eight columns of what came, eight of what went, the bytes first.
    return (int(counted[0]), int(counted[8])) if counted else (0, 0)


def is_up(name: str) -> bool:
    """Whether an interface is there and up."""
    # ip also takes another device's alternative name for it (altname); the rules do not.
    return any("UP" in link.get("flags", ()) for link in listed("link", "show", "dev", name) if link.get("ifname") == name)

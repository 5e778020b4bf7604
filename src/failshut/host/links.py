"""The machine's network devices, and which of them the layer under IP must guard. Small, because `status` asks it too."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from failshut.host.run import run
from failshut.model.units import InterfaceName

# Devices that can't carry a frame off the machine.
_NOWHERE = frozenset({"dummy", "ifb", "netdevsim", "nlmon", "vcan", "vxcan"})
# A guest's or container's end of a bridge: frames there come from the machine's side of the cable, not from its outside.
_GUEST_PORTS = frozenset({"veth", "tun"})


def underlay_now(tunnels: Iterable[str], bridges: Iterable[str]) -> tuple[InterfaceName, ...]:
    """Return the underlay devices that are there now, of a machine with these tunnels and these patterns of local bridges."""
    return underlay_devices(all_links(), set(tunnels), bridges)


def underlay_devices(
    links: Iterable[Mapping[str, Any]], tunnels: Collection[str], bridges: Iterable[str] = ()
) -> tuple[InterfaceName, ...]:
    """Return the devices of `ip -j -d link` that the layer under IP must guard.

    A bridge that fits one of the patterns and has no port to the outside is part of the machine. A device whose name nft can't say
    is left out: the choke point still refuses what leaves by it.
    """
    links = list(links)
    patterns, uplinked = tuple(bridges), uplinked_bridges(links)
    found = []
    for link in links:
        name = link["ifname"]
        local = _kind(link) == "bridge" and name not in uplinked and any(fnmatchcase(name, each) for each in patterns)
        if _leads_nowhere(link) or name in tunnels or local:
            continue
        if _can_be_said(name):
            found.append(InterfaceName(name))
    return tuple(found)


def uplinked_bridges(links: Iterable[Mapping[str, Any]]) -> tuple[InterfaceName, ...]:
    """Return the bridges with a port that can carry a frame off the machine."""
    links = list(links)
    masters = {link.get("master") for link in links if not _leads_nowhere(link)}
    names = [link["ifname"] for link in links if _kind(link) == "bridge" and link["ifname"] in masters]
    return tuple(InterfaceName(each) for each in names if _can_be_said(each))


def _kind(link: Mapping[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _leads_nowhere(link: Mapping[str, Any]) -> bool:
    guest = _kind(link) in _GUEST_PORTS and link.get("linkinfo", {}).get("info_slave_kind") == "bridge"
    return "LOOPBACK" in link.get("flags", ()) or _kind(link) in _NOWHERE or guest


def _can_be_said(name: str) -> bool:
    try:
        InterfaceName(name)
    except ValueError:
        return False
    return True


def all_links() -> list[dict[str, Any]]:
    """Return `ip -j -d link show`; empty when ip does not answer."""
    result = run(["ip", "-j", "-d", "link", "show"])
    return list(json.loads(result.out)) if result.ok and result.out.strip() else []


def received(name: str) -> int:
    """Return the bytes that an interface has taken in; 0 for one that is not there."""
    return traffic(name)[0]


def traffic(name: str) -> tuple[int, int]:
    """Return the bytes that an interface has taken in and given out since it is there; zeros for one that is not."""
    lines = (line.partition(":") for line in Path("/proc/net/dev").read_text().splitlines())
    counted = next((words.split() for label, _, words in lines if label.strip() == name), None)
    # proc(5): eight columns of what came, eight of what went, the bytes first.
    return (int(counted[0]), int(counted[8])) if counted else (0, 0)


def is_up(name: str) -> bool:
    """Whether an interface is there and up."""
    shown = run(["ip", "-j", "link", "show", "dev", name])
    return shown.ok and any("UP" in link.get("flags", ()) for link in json.loads(shown.out or "[]"))

"""The machine's network devices, and which of them the layer under IP must guard. Small, because `status` asks it too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from failshut.host.run import run
from failshut.model.units import InterfaceName

# Devices that can't carry a frame off the machine.
_NOWHERE = frozenset({"dummy", "ifb", "netdevsim", "nlmon", "vcan", "vxcan"})
# A guest's or container's end of a bridge: frames there come from the machine's side of the cable, not from its outside.
_GUEST_PORTS = frozenset({"veth", "tun"})


def underlay_now(tunnels: Iterable[str]) -> tuple[InterfaceName, ...]:
    """Return the underlay devices that are there now, of a machine with these tunnels."""
    return underlay_devices(all_links(), set(tunnels))


def underlay_devices(links: Iterable[Mapping[str, Any]], tunnels: Iterable[str]) -> tuple[InterfaceName, ...]:
    """Return the devices of `ip -j -d link` that the layer under IP must guard.

    A device whose name nft can't say is left out: the choke point still refuses what leaves by it.
    """
    found = []
    for link in links:
        kind = link.get("linkinfo", {}).get("info_kind", "")
        guest = kind in _GUEST_PORTS and link.get("linkinfo", {}).get("info_slave_kind") == "bridge"
        if "LOOPBACK" in link.get("flags", ()) or link["ifname"] in tunnels or kind in _NOWHERE or guest:
            continue
        try:
            found.append(InterfaceName(link["ifname"]))
        except ValueError:
            continue
    return tuple(found)


def all_links() -> list[dict[str, Any]]:
    """Return `ip -j -d link show`; empty when ip does not answer."""
    result = run(["ip", "-j", "-d", "link", "show"])
    return list(json.loads(result.out)) if result.ok and result.out.strip() else []

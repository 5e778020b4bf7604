"""The machine's facts for the compiler: underlay devices, DHCP users, how each tunnel's transport is sent."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_interface
from itertools import count
from pathlib import Path
from typing import Any

from failshut.host.network.links import all_links, called_bridges, underlay_devices
from failshut.host.network.listed import listed
from failshut.host.tunnels import openvpn
from failshut.host.tunnels.wireguard import fwmark_of
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.marks import OUTSIDE, PROBE, STAMP
from failshut.model.policy import Policy, TunnelKind
from failshut.model.units import InterfaceAddress, InterfaceName, Mark

# Debian, Fedora, Arch: systemd-networkd, dhcpcd, ISC dhclient's and Alpine's udhcpc's users.
_DHCP_USERS = ("systemd-network", "dhcpcd", "_dhcpcd", "_dhcp", "dhcp")
_EGRESS_SINCE = (5, 16)
# WireGuard's, in wg-quick's, systemd-networkd's and NetworkManager's words; OpenVPN's in PEM.
_PRIVATE_KEYS = (
    re.compile(rb"^[ \t]*Private-?Key[ \t]*=[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE),
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL),
)


def probe(policy: Policy) -> HostFacts:
    """Ask the machine what `lower` must know. Needs no privilege; what can't be learnt without it is left out."""
    links = all_links()
    tunnels = set(policy.interfaces)
    kinds = {each.interface: each.kind for each in policy.tunnels}
    live = {name: _tunnel(name, kinds.get(name), links) for name in tunnels}
    underlay = underlay_devices(links, tunnels, policy.forward.bridges)
    return HostFacts(
        underlay=underlay,
        dhcp_uids=_dhcp_uids(),
        tunnels=live,
        marks=given_marks(policy, live),
        egress=_kernel_version() >= _EGRESS_SINCE,
        stamp=_secret(policy, b"failshut stamp 2", STAMP),
        outside=_secret(policy, b"failshut outside", OUTSIDE),
        probe=_secret(policy, b"failshut probe", PROBE),
        uplinked=called_bridges(underlay, policy.forward.bridges),
    )


def given_marks(policy: Policy, live: Mapping[InterfaceName, LiveTunnel]) -> dict[InterfaceName, Mark]:
    """Return the mark of each tunnel that neither the policy nor its config gives one.

    What it runs with: another would loop its transport into itself. But not what a tunnel before it has: wg-quick, run twice at
    once, gives both the same, and neither then comes up beside the other. It counts up from 51820, as is done here.
    """
    unsaid = [each for each in policy.tunnels if each.fwmark is None]
    taken = {each.fwmark for each in policy.tunnels}
    given = {}
    for each in unsaid:
        running = live[each.interface].fwmark
        if running is not None and running not in taken:
            given[each.interface] = running
            taken.add(running)
    for each in unsaid:
        if each.interface not in given:
            given[each.interface] = next(mark for mark in map(Mark, count(each.default_mark)) if mark not in taken)
            taken.add(given[each.interface])
    return given


def _dhcp_uids() -> tuple[int, ...]:
    known = []
    for name in _DHCP_USERS:
        try:
            known.append(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return (0, *sorted(set(known)))


def _tunnel(name: InterfaceName, whose: TunnelKind | None, links: Iterable[Mapping[str, Any]]) -> LiveTunnel:
    link = next((each for each in links if each["ifname"] == name), None)
    is_openvpn = whose is TunnelKind.OPENVPN
    if link is None:
        return LiveTunnel(WireGuardKind.USERSPACE if is_openvpn else _kind_when_it_comes_up(whose))
    kind = {"wireguard": WireGuardKind.KERNEL, "tun": WireGuardKind.USERSPACE}.get(
        link.get("linkinfo", {}).get("info_kind", ""), WireGuardKind.UNKNOWN
    )
    return LiveTunnel(kind, openvpn.mark_of(name) if is_openvpn else fwmark_of(name), _addresses(name), running=True)


def _kind_when_it_comes_up(whose: TunnelKind | None) -> WireGuardKind:
    """wg-quick takes the kernel's WireGuard wherever there is one; without it, only a program can be the sender."""
    if whose is not None and whose.is_kernels:
        return WireGuardKind.KERNEL
    # Built in or loaded (WireGuard declares a version, so that sysfs shows it either way), or there to be loaded.
    loadable = Path("/lib/modules") / os.uname().release / "kernel/drivers/net/wireguard"
    if Path("/sys/module/wireguard").exists() or any(loadable.glob("wireguard.ko*")):
        return WireGuardKind.KERNEL
    return WireGuardKind.USERSPACE


def _addresses(name: str) -> tuple[InterfaceAddress, ...]:
    entries = [entry for link in listed("addr", "show", "dev", name) for entry in link.get("addr_info", ())]
    return tuple(ip_interface(f"{entry['local']}/{entry['prefixlen']}") for entry in entries)


def _secret(policy: Policy, purpose: bytes, otherwise: Mark) -> Mark:
    """Return a mark of the machine's own for one purpose, by a hash that tells nothing of what it is made from.

    From /etc/machine-id, as machine-id(5) asks, and the tunnels' private keys: a container that can read the one can't read the
    others. Who may not read them either is shown another mark than the one that is armed.
    """
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = b""
    keys = sorted(key for tunnel in policy.tunnels if tunnel.config for key in _private_keys(Path(tunnel.config)))
    if not machine and not keys:
        return otherwise
    digest = hashlib.sha256(b"\0".join((purpose, machine, *keys))).digest()
    return Mark(int.from_bytes(digest[:4], "big") | STAMP)


def _private_keys(config: Path) -> list[bytes]:
    try:
        text = config.read_bytes()
        return [key for each in _PRIVATE_KEYS for key in each.findall(text)]
    except OSError:
        return []


def _kernel_version() -> tuple[int, int]:
    major, minor, *_ = (*os.uname().release.split("."), "0", "0")
    digits = "".join(each for each in minor if each.isdigit()) or "0"
    return int(major), int(digits)

"""The resolver that the network itself told of: by DHCP, asked of whoever took its lease; else resolv.conf's, else the gateway.

A captive portal answers for every name by its own resolver, and lets no other through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from failshut.host.network.links import all_links
from failshut.host.network.listed import listed
from failshut.host.run import run
from failshut.model.units import Address

# What a program reads of resolv.conf (MAXNS, resolv.conf(5)).
MOST_SERVERS = 3
_NETWORKD = Path("/run/systemd/netif")
_DHCLIENT = (Path("/var/lib/dhcp"), Path("/var/lib/dhclient"), Path("/run"))
RESOLV_CONF = Path("/etc/resolv.conf")
_LEASE = re.compile(r"lease6?\s*\{(.*?)^\}", re.DOTALL | re.MULTILINE)
_LEASE_DEVICE = re.compile(r'interface\s+"([^"]+)"\s*;')
_LEASE_DNS = re.compile(r"option\s+(?:domain-name-servers|dhcp6\.name-servers)\s+([^;]+);")


@dataclass(frozen=True, slots=True)
class FoundResolver:
    """A resolver and who knows it."""

    address: Address
    source: str


def network_resolvers(devices: Iterable[str]) -> tuple[FoundResolver, ...]:
    """Return the resolvers of the networks behind `devices`: of the first source that knows any, each address once."""
    devices = tuple(devices)
    for source, ask in _SOURCES:
        found = dict.fromkeys(each for each in ask(devices) if _is_elsewhere(each))
        if found:
            return tuple(FoundResolver(each, source) for each in list(found)[:MOST_SERVERS])
    return ()


def _is_elsewhere(address: Address) -> bool:
    """Whether an address can be another machine's. A forwarder on this one is inside, and asks the tunnel's resolver."""
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _networkd(devices: tuple[str, ...]) -> Iterator[Address]:
    numbers = {each["ifname"]: each["ifindex"] for each in all_links()}
    for device in devices:
        # The lease says what DHCP gave; the link also what router advertisements and the file did.
        for place in ("leases", "links"):
            yield from parse_assignments(_read(_NETWORKD / place / str(numbers.get(device, ""))), "DNS")


def _network_manager(devices: tuple[str, ...]) -> Iterator[Address]:
    for device in devices:
        yield from addresses(run(["nmcli", "--get-values", "IP4.DNS,IP6.DNS", "device", "show", device], timeout=5).out)


def _dhclient(devices: tuple[str, ...]) -> Iterator[Address]:
    files = [each for directory in _DHCLIENT for each in directory.glob("dhclient*.lease*")]
    for each in sorted(files, key=_age, reverse=True):
        yield from parse_leases(_read(each), devices)


def _dhcpcd(devices: tuple[str, ...]) -> Iterator[Address]:
    for device in devices:
        text = run(["dhcpcd", "--dumplease", device], timeout=5).out
        yield from parse_assignments(text, "domain_name_servers", "dhcp6_name_servers")


def _resolved(devices: tuple[str, ...]) -> Iterator[Address]:
    for device in devices:
        yield from addresses(run(["resolvectl", "dns", device], timeout=5).out.partition("):")[2])


def name_servers(path: Path = RESOLV_CONF) -> Iterator[str]:
    """Yield the name servers of a resolv.conf, as they stand there; none of one that can't be read."""
    for line in _read(path).splitlines():
        words = line.split()
        if words[:1] == ["nameserver"]:
            yield from words[1:2]


def _by_guess(devices: tuple[str, ...]) -> Iterator[Address]:
    # resolv.conf may hold the tunnel's resolver by now, which does not answer here.
    for each in name_servers():
        yield from addresses(each)
    yield from _gateways(devices)


def _gateways(devices: tuple[str, ...]) -> Iterator[Address]:
    for family in ("-4", "-6"):
        for route in listed(family, "route", "show", "default", "table", "main"):
            if route.get("dev") in devices:
                yield from addresses(route.get("gateway", ""))


# In this order: who took the lease knows best.
_SOURCES: tuple[tuple[str, Callable[[tuple[str, ...]], Iterator[Address]]], ...] = (
    ("systemd-networkd", _networkd),
    ("NetworkManager", _network_manager),
    ("dhclient's lease", _dhclient),
    ("dhcpcd's lease", _dhcpcd),
    ("systemd-resolved", _resolved),
    ("/etc/resolv.conf and the gateway", _by_guess),
)


def parse_assignments(text: str, *names: str) -> Iterator[Address]:
    """Read the addresses out of `NAME=a b` or `NAME='a b'` lines."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in names:
            yield from addresses(value.strip().strip("'\""))


def parse_leases(text: str, devices: Iterable[str]) -> tuple[Address, ...]:
    """Read dhclient.leases(5): of each device its last lease's resolvers."""
    latest: dict[str, tuple[Address, ...]] = {}
    for lease in _LEASE.findall(text):
        device = _LEASE_DEVICE.search(lease)
        if device and device[1] in devices:
            latest[device[1]] = tuple(each for found in _LEASE_DNS.findall(lease) for each in addresses(found))
    return tuple(each for found in latest.values() for each in found)


def addresses(text: str) -> Iterator[Address]:
    """Yield the addresses among words, bars and commas; a scoped one (fe80::1%eth0) is left out, a name too."""
    for word in re.split(r"[\s,|]+", text.replace("\\:", ":")):
        try:
            address = ip_address(word)
        except ValueError:
            continue
        if not getattr(address, "scope_id", None):
            yield address


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

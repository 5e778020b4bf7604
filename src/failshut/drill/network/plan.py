"""The lab's addresses and devices, worked out from the user's own policy. Pure.

Every address the policy names is where the policy says; every other one is chosen so that the policy does not cover it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from itertools import islice

from failshut.model.host import HostFacts
from failshut.model.policy import DEFAULT_FWMARK, Inbound, Policy, Tunnel, TunnelKind
from failshut.model.units import Address, Endpoint, InterfaceAddress, InterfaceName, Mark, Prefix, Protocol

DEFAULT_LAN4, DEFAULT_LAN6 = IPv4Network("192.168.50.0/24"), IPv6Network("fd50::/64")
# RFC 2544's and RFC 3849's ranges stand for the Internet where the policy leaves them free; the others are reserves.
INTERNET4 = tuple(IPv4Network(each) for each in ("198.18.0.0/16", "192.0.2.0/24", "198.19.0.0/16", "100.64.0.0/16"))
INTERNET6 = tuple(IPv6Network(each) for each in ("2001:db8:80::/48", "2001:db8:81::/48", "2001:2:0::/48"))
# Of the machine's devices so many have a cable; the others are spare, for what is plugged in later.
_MOST_CABLES = 3
SPARE4 = tuple(IPv4Network(f"192.168.{third}.0/24") for third in (77, 177, 217))
SPARE6 = tuple(IPv6Network(f"fd{first}::/64") for first in ("77", "a1", "c3"))


class PlanError(ValueError):
    """No lab can be made of this policy: why, in words for the user."""


@dataclass(frozen=True, slots=True)
class Cable:
    """One of the client's underlay devices and the router's end of its cable."""

    device: InterfaceName
    router_end: str
    bridge: str
    mac: str
    router_mac: str
    client4: IPv4Interface
    client6: IPv6Interface
    router4: IPv4Address
    router6: IPv6Address

    def neighbour(self, version: int, index: int) -> InterfaceAddress:
        """Return the address number `index` of the cable's network, with its prefix length."""
        if version == 4:
            return IPv4Interface((int(self.client4.network[index]), self.client4.network.prefixlen))
        return IPv6Interface((int(self.client6.network[index]), self.client6.network.prefixlen))

    @property
    def link_local(self) -> IPv6Address:
        """The client's fe80:: address on this cable, by EUI-64 from its MAC."""
        octets = bytearray.fromhex(self.mac.replace(":", ""))
        octets[0] ^= 2
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:]))


@dataclass(frozen=True, slots=True)
class Plan:
    """Who has which address.

    `spare_devices` are there, without a cable: a kernel may refuse a lock that names a device it does not have. `lan_prefixes`
    are on the link beside the client's own. `lan_host`, `resolver` and `printer` live on the LAN; `internet4`
    and `internet6` hold everything public that the policy does not name: the server answers for each address in them.
    """

    tunnel: Tunnel
    fwmark: Mark
    endpoints: tuple[Endpoint, ...]
    tunnel_addresses: tuple[InterfaceAddress, ...]
    cables: tuple[Cable, ...]
    spare_devices: tuple[InterfaceName, ...]
    lan_prefixes: tuple[Prefix, ...]
    lan_hosts: tuple[InterfaceAddress, ...]
    resolver4: IPv4Address
    resolver6: IPv6Address
    internet4: IPv4Network
    internet6: IPv6Network
    # The tunnel that carries this one's transport, in a double hop.
    outer: Tunnel | None = None

    @property
    def cable(self) -> Cable:
        """The first cable, which holds the client's default route."""
        return self.cables[0]

    def public(self, version: int, index: int) -> Address:
        """Return the public address number `index` (1 and up) of a family; the policy allows nothing to it."""
        return self.internet4[index] if version == 4 else self.internet6[index]

    def tunnel_address(self, version: int) -> Address | None:
        """Return the tunnel's own address of a family, if it has one."""
        return next((each.ip for each in self.tunnel_addresses if each.version == version), None)

    def endpoint(self, version: int) -> Endpoint | None:
        """Return the server's endpoint of a family, if it has one."""
        return next((each for each in self.endpoints if each.address.version == version), None)


def _named(policy: Policy) -> Iterator[Prefix]:
    yield from policy.lan.prefixes if policy.lan else ()
    for inbound in policy.inbound:
        yield from inbound.sources
    for outbound in policy.outbound:
        yield from outbound.to
    for tunnel in policy.tunnels:
        yield from (ip_network(each.address) for each in tunnel.endpoints)
        yield from (ip_network(each.ip) for each in tunnel.addresses)


def _free(candidates: Iterable[Prefix], taken: Iterable[Prefix]) -> Prefix:
    """Return the first candidate that overlaps nothing taken (a default route such as `0.0.0.0/0` is not counted)."""
    busy = [each for each in taken if each.prefixlen]
    for candidate in candidates:
        if not any(candidate.version == each.version and candidate.overlaps(each) for each in busy):
            return candidate
    raise PlanError("the policy names every range that the lab could use for the Internet")


def _client_lan(policy: Policy, version: int, default: Prefix) -> Prefix:
    """Return the prefix the client lives in: the first allowed one that is large enough, else the lab's own."""
    prefixes = policy.lan.prefixes if policy.lan else ()
    usable = (each for each in prefixes if each.version == version and not each.is_link_local and not each.is_multicast)
    roomy = (each for each in usable if each.num_addresses >= 64 and each.prefixlen >= 7)
    return next(roomy, default)


def _cables(policy: Policy, facts: HostFacts) -> tuple[Cable, ...]:
    lan4, lan6 = _client_lan(policy, 4, DEFAULT_LAN4), _client_lan(policy, 6, DEFAULT_LAN6)
    taken: list[Prefix] = [lan4, lan6, *_named(policy)]
    cables = []
    for index, device in enumerate(facts.underlay):
        if index:
            # Each further device is on a network of its own.
            lan4, lan6 = _free(SPARE4, taken), _free(SPARE6, taken)
            taken += [lan4, lan6]
        cables.append(
            Cable(
                device=device,
                router_end=f"cable{index}",
                bridge=f"lan{index}",
                mac=f"02:00:00:00:{index:02x}:02",
                router_mac=f"02:00:00:00:{index:02x}:01",
                client4=IPv4Interface((lan4[20], lan4.prefixlen)),
                client6=IPv6Interface((lan6[20], lan6.prefixlen)),
                router4=IPv4Address(lan4[1]),
                router6=IPv6Address(lan6[1]),
            )
        )
    return tuple(cables)


def make_plan(policy: Policy, facts: HostFacts) -> Plan:
    """Return the lab for a policy on a machine with these devices. Raises PlanError where none can be built."""
    tunnel = next((each for each in policy.open_tunnels if _served_by(each)), None)
    if tunnel is None:
        raise PlanError("no tunnel of the policy has a UDP endpoint or is OpenVPN's: the drill's servers speak nothing else")
    if not facts.underlay:
        raise PlanError("the machine has no network device but loopback and tunnels, so there is nothing to watch")
    served = _served_by(tunnel)
    cables = _cables(policy, HostFacts(underlay=facts.underlay[:_MOST_CABLES]))
    home: tuple[Prefix, ...] = (cables[0].client4.network, cables[0].client6.network)
    others = tuple(each for each in (policy.lan.prefixes if policy.lan else ()) if each not in home and _is_placeable(each))
    hosts = [cables[0].neighbour(4, 30), cables[0].neighbour(6, 30)]
    hosts += [_host_in(each) for each in others]
    taken = [*_named(policy), *home, *(c.client4.network for c in cables), *(c.client6.network for c in cables)]
    return Plan(
        tunnel=tunnel,
        fwmark=tunnel.fwmark or DEFAULT_FWMARK,
        endpoints=served,
        tunnel_addresses=tunnel.addresses or (IPv4Interface("10.99.0.2/32"), IPv6Interface("fd99::2/128")),
        cables=cables,
        spare_devices=facts.underlay[_MOST_CABLES:],
        lan_prefixes=others,
        lan_hosts=tuple(hosts),
        resolver4=IPv4Address(home[0][53]),
        resolver6=IPv6Address(home[1][53]),
        internet4=_as4(_free(INTERNET4, taken)),
        internet6=_as6(_free(INTERNET6, taken)),
        outer=_outer(policy, tunnel),
    )


def _served_by(tunnel: Tunnel) -> tuple[Endpoint, ...]:
    """Return the endpoints that the lab's server can stand for: WireGuard's, or all of OpenVPN's that speak as its first does."""
    first = tunnel.endpoints[0].protocol if tunnel.kind is TunnelKind.OPENVPN and tunnel.endpoints else Protocol.UDP
    return tuple(each for each in tunnel.endpoints if each.protocol is first)


def _outer(policy: Policy, inner: Tunnel) -> Tunnel | None:
    outer = next((each for each in policy.tunnels if each.interface == inner.through), None)
    if outer and (outer.through or TunnelKind.OPENVPN in (inner.kind, outer.kind) or not _served_by(outer)):
        raise PlanError(f"the drill has no server for {outer.interface}: it builds two hops at most, both of WireGuard")
    return outer


def _is_placeable(prefix: Prefix) -> bool:
    """Whether a LAN host can be given an address of this prefix: not a default route, a multicast or a link-local range."""
    return bool(prefix.prefixlen) and not prefix.is_multicast and not prefix.is_link_local


def _host_in(prefix: Prefix) -> InterfaceAddress:
    """Return an address of a prefix, with the prefix' length: the second where there is one."""
    address = list(islice(prefix, 2))[-1]
    if isinstance(prefix, IPv4Network):
        return IPv4Interface((int(address), prefix.prefixlen))
    return IPv6Interface((int(address), prefix.prefixlen))


def address_in(prefix: Prefix) -> Address:
    """Return some address of a prefix."""
    return prefix[min(9, prefix.num_addresses - 1)]


def callers_of(plan: Plan, service: Inbound, version: int) -> dict[str, Address]:
    """Return who may call a service: "on the link" the LAN host, "beyond" some address that is not on it."""
    callers: dict[str, Address] = {}
    neighbour = next(each for each in plan.lan_hosts if each.version == version)
    sources = [each for each in service.sources if each.version == version]
    if not service.sources or any(neighbour.ip in each for each in sources):
        callers["on the link"] = neighbour.ip
    home = plan.cable.client4.network if version == 4 else plan.cable.client6.network
    if not service.sources:
        callers["beyond the link"] = plan.public(version, 22)
    for each in sources:
        far = address_in(each)
        if far not in home and not any(far in prefix for prefix in plan.lan_prefixes if prefix.version == version):
            callers["beyond the link"] = far
    return callers


def _as4(prefix: Prefix) -> IPv4Network:
    if isinstance(prefix, IPv4Network):
        return prefix
    raise PlanError(f"{prefix} is not an IPv4 prefix")


def _as6(prefix: Prefix) -> IPv6Network:
    if isinstance(prefix, IPv6Network):
        return prefix
    raise PlanError(f"{prefix} is not an IPv6 prefix")

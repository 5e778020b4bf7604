"""The drill's network, built in a handful of `ip` calls.

    ┌─────────── client ───────────┐        ┌──────────── router ────────────┐        ┌──────────── server ────────────┐
    │ wg0   the tunnel             │  cable │ cable0 ◄── captured            │        │ the WireGuard server, on the    │
    │ eth0 ─────────────────────────────────── lan0 (bridge) ── wan ─────────────────── endpoint's address and port     │
    │ its services, its traffic,   │        │        │                       │        │ "the Internet": every other     │
    │ the lock                     │        │ cable1 ◄── captured            │        │ public address, by any-IP       │
    │ eth1 ─────────────────────────────────── lan1   │                       │        └─────────────────────────────────┘
    └──────────────────────────────┘        └─────────│──────────────────────┘
                                             ┌─────── lan ───────┐
                                             │ resolver, printer,│
                                             │ on-link SSH client│
                                             └───────────────────┘

A public address is reached both through the tunnel and, in the clear, by the router, so that a leak gets somewhere and is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from failshut.drill.network.netns import Namespace, must
from failshut.drill.network.plan import Cable, Plan
from failshut.host.run import run

# Only between router and server; nobody else sees these.
ROUTER_WAN4, SERVER_WAN4 = "172.31.255.1", "172.31.255.2"
ROUTER_WAN6, SERVER_WAN6 = "fd00:ffff:ffff::1", "fd00:ffff:ffff::2"


@dataclass(frozen=True, slots=True)
class Hosts:
    """The lab's four machines."""

    client: Namespace
    router: Namespace
    server: Namespace
    lan: Namespace

    @property
    def all(self) -> tuple[Namespace, ...]:
        """Every machine."""
        return (self.client, self.router, self.server, self.lan)


def build(plan: Plan) -> Hosts:
    """Build the lab in the worker's own mount namespace, where /run is a private tmpfs."""
    hosts = Hosts(*(Namespace(each) for each in ("client", "router", "server", "lan")))
    _batch("\n".join(f"netns add {each.name}" for each in hosts.all))
    for host in hosts.all:
        host.sysctl(QUIET)
    # The server answers for addresses that no interface of its holds, from those addresses.
    hosts.server.sysctl({"ipv4/ip_nonlocal_bind": 1, "ipv6/ip_nonlocal_bind": 1})
    hosts.router.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    _batch(_links(plan))
    hosts.router.batch(_router(plan))
    hosts.router.sysctl(_proxies(plan))
    hosts.server.batch(_server(plan))
    hosts.lan.batch(_lan(plan))
    hosts.client.batch("\n".join(_client(plan)))
    return hosts


# Addresses are usable at once (no duplicate detection), and no sysctl is inherited from the machine by chance.
QUIET: dict[str, int | str] = {
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/dad_transmits": 0,
    "ipv6/conf/default/router_solicitations": 0,
    "ipv6/conf/all/disable_ipv6": 0,
    "ipv6/conf/default/disable_ipv6": 0,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/arp_ignore": 0,
    "ipv4/conf/default/arp_ignore": 0,
    "ipv4/ip_forward": 0,
    "ipv4/ip_nonlocal_bind": 0,
    "ipv6/ip_nonlocal_bind": 0,
    "ipv4/ping_group_range": "0 0",
}


def _batch(lines: str) -> None:
    must(run(("ip", "-batch", "-"), stdin=lines + "\n"))


def _links(plan: Plan) -> str:
    # gso_max_segs 1: the kernel cuts large sends into packets before the cable, so that a captured frame is one packet.
    lines = [
        f"link add {each.device} netns client address {each.mac} gso_max_segs 1 type veth peer name {each.router_end} netns router"
        for each in plan.cables
    ]
    lines += [
        f"link add {each} netns client type veth peer name spare{n} netns router" for n, each in enumerate(plan.spare_devices)
    ]
    lines.append("link add eth0 netns lan type veth peer name port netns router")
    lines.append("link add net0 netns server gso_max_segs 1 type veth peer name wan netns router")
    return "\n".join(lines)


def _proxies(plan: Plan) -> dict[str, int | str]:
    """Have the router answer for every public address on the LAN: what a route makes "local" must not die for want of ARP."""
    settings: dict[str, int | str] = {}
    for each in plan.cables:
        settings[f"ipv4/conf/{each.bridge}/proxy_arp"] = 1
        settings[f"ipv6/conf/{each.bridge}/proxy_ndp"] = 1
    return settings


def _router(plan: Plan) -> str:
    lines = ["link set lo up"]
    for cable in plan.cables:
        lines += [
            f"link add {cable.bridge} address {cable.router_mac} type bridge mcast_snooping 0",
            f"link set {cable.router_end} master {cable.bridge}",
            f"link set {cable.router_end} up",
            f"link set {cable.bridge} up",
            f"address add {cable.router4}/{cable.client4.network.prefixlen} dev {cable.bridge}",
            f"address add {cable.router6}/{cable.client6.network.prefixlen} dev {cable.bridge}",
        ]
    lines += [
        f"link set port master {plan.cable.bridge}",
        "link set port up",
        "link set wan up",
        f"address add {ROUTER_WAN4}/30 dev wan",
        f"address add {ROUTER_WAN6}/64 dev wan",
        f"route add default via {SERVER_WAN4}",
        f"route add default via {SERVER_WAN6}",
    ]
    lines += [f"route add {each} dev {plan.cable.bridge}" for each in plan.lan_prefixes]
    # An endpoint inside a LAN prefix is still the server's.
    lines += [
        f"route replace {each.address} via {SERVER_WAN4 if each.address.version == 4 else SERVER_WAN6}" for each in plan.endpoints
    ]
    lines += [
        f"neigh add proxy {each.address} dev {cable.bridge}"
        for each in plan.endpoints
        if each.address.version == 6
        for cable in plan.cables
    ]
    return "\n".join(lines)


def _server(plan: Plan) -> str:
    lines = [
        "link set lo up",
        "link set net0 up",
        f"address add {SERVER_WAN4}/30 dev net0",
        f"address add {SERVER_WAN6}/64 dev net0",
        "route add local 0.0.0.0/0 dev lo table main",
        "route add local ::/0 dev lo table main",
    ]
    # Not every wireguard-go (0.0.20230223, Debian 13) answers from the address that it was called at.
    called = {each.address.version: each.address for each in reversed(plan.endpoints)}
    lines += [f"address add {each} dev lo nodad" for each in called.values()]
    prefixes = [*plan.lan_prefixes]
    for cable in plan.cables:
        prefixes += [cable.client4.network, cable.client6.network]
    for each in prefixes:
        source = f" src {called[each.version]}" if each.version in called else ""
        lines.append(f"route add {each} via {ROUTER_WAN4 if each.version == 4 else ROUTER_WAN6}{source}")
    return "\n".join(lines)


def _lan(plan: Plan) -> str:
    resolver4 = f"{plan.resolver4}/{plan.cable.client4.network.prefixlen}"
    resolver6 = f"{plan.resolver6}/{plan.cable.client6.network.prefixlen}"
    lines = ["link set lo up", "link set eth0 up"]
    lines += [f"address add {each} dev eth0" for each in (*plan.lan_hosts, resolver4, resolver6)]
    lines += [f"route add default via {plan.cable.router4}", f"route add default via {plan.cable.router6}"]
    return "\n".join(lines)


def client_device(cable: Cable) -> list[str]:
    """Return the `ip` lines that bring up one of the client's devices, as its network manager would."""
    return [
        f"link set {cable.device} up",
        f"address add {cable.client4} dev {cable.device}",
        f"address add {cable.client6} dev {cable.device}",
    ]


def default_routes(cable: Cable) -> list[str]:
    """Return the `ip` lines that give the client its default routes over a cable."""
    return [
        f"route replace default via {cable.router4} dev {cable.device}",
        f"route replace default via {cable.router6} dev {cable.device}",
    ]


def _client(plan: Plan) -> list[str]:
    lines = ["link set lo up"]
    for cable in plan.cables:
        lines += client_device(cable)
    lines += default_routes(plan.cable)
    own = {plan.cable.client4.network, plan.cable.client6.network}
    lines += [f"route add {ip_network(each)} dev {plan.cable.device}" for each in plan.lan_prefixes if each not in own]
    return lines

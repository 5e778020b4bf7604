"""The routes are taken from under the tunnel: by accident, by another tool, by a DHCP server, by a neighbour."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from failshut.drill.attacker import craft, senders
from failshut.drill.lab import Lab
from failshut.drill.network import traffic
from failshut.drill.network.openvpn import OpenVpnTunnel
from failshut.drill.network.topology import client_device, default_routes
from failshut.drill.network.wait import until
from failshut.drill.scenario import Need, Scenario


def lose_rules(lab: Lab) -> None:
    """Delete wg-quick's routing rules, IPv4 and IPv6, with the tunnel up: what is not marked goes to the main table.

    OpenVPN has none; its routes stand in the main table themselves.
    """
    of_openvpn = isinstance(lab.tunnel, OpenVpnTunnel)
    lost = ("route", "flush", "dev", lab.tunnel.device) if of_openvpn else ("rule", "delete", "table", str(int(lab.plan.fwmark)))
    for family in ("-4", "-6"):
        lab.client.run("ip", family, *lost)


def new_flows(lab: Lab) -> None:
    """Start programs that did not run before the attack."""
    target = lab.target("new flows")
    for version in lab.versions:
        address = target.of(version)
        lab.traffic.add([traffic.tcp_upload(address), traffic.udp_connected(address), traffic.udp_unbound(address)])


def rule_lost(lab: Lab) -> None:
    """Delete the tunnel's rules; what runs and what starts afterwards must stay in."""
    lose_rules(lab)
    new_flows(lab)


def link_down(lab: Lab) -> None:
    """Set the tunnel's link down: its routes go, its addresses stay."""
    lab.client.batch(f"link set {lab.tunnel.device} down")
    new_flows(lab)


def address_elsewhere(lab: Lab) -> None:
    """Delete the link and give its addresses to the underlay, where running flows find them again."""
    lab.tunnel.kill()
    lab.client.try_batch(f"link delete {lab.tunnel.device}")
    until(lambda: not lab.client.run("ip", "link", "show", lab.tunnel.device).ok, within=2)
    lab.client.batch("\n".join(f"address replace {each} dev {lab.device}" for each in lab.plan.tunnel_addresses))


def _better_routes(lab: Lab, *, on_link: bool) -> None:
    """Add routes for the public ranges over the first cable that are longer than the tunnel's /0."""
    for version, prefix in ((4, lab.plan.internet4), (6, lab.plan.internet6)):
        via = "" if on_link else f"via {lab.router(version)} "
        lab.client.do("ip", f"-{version}", "route", "replace", str(prefix), *via.split(), "dev", lab.device)


def option_121(lab: Lab) -> None:
    """Take the classless routes of a rogue DHCP server: wg-quick's rules prefer any route but a default one."""
    _better_routes(lab, on_link=False)
    new_flows(lab)


def local_net(lab: Lab) -> None:
    """Give the client a LAN that claims public addresses: they become neighbours, and the router answers for them."""
    target = lab.target("new flows")
    bridge = lab.plan.cable.bridge
    proxied = [lab.host(6), lab.resolver(6), target.v6]
    lab.hosts.router.batch("\n".join(f"neigh add proxy {each} dev {bridge}" for each in proxied))
    _better_routes(lab, on_link=True)
    new_flows(lab)


def rogue_advertisement(lab: Lab) -> None:
    """Announce a public prefix as on-link, a default router and a resolver, by router advertisement."""
    lab.client.sysctl({f"ipv6/conf/{lab.device}/accept_ra": 2})
    prefix = lab.plan.internet6
    slash64 = IPv6Address(int(prefix.network_address))
    bridge = lab.plan.cable.bridge
    target = lab.target("new flows")
    lab.hosts.router.batch("\n".join(f"neigh add proxy {each} dev {bridge}" for each in (lab.host(6), lab.resolver(6), target.v6)))
    source, everyone = IPv6Address("fe80::bad"), IPv6Address("ff02::1")
    body = craft.router_advertisement(source, everyone, slash64, 64, lab.resolver(6))  # type: ignore[arg-type]
    frame = craft.ethernet(
        craft.ALL_NODES_MAC, lab.plan.cable.router_mac, 0x86DD, craft.ipv6(source, everyone, 58, body, hop_limit=255)
    )
    senders.frames(lab.hosts.router, lab.plan.cable.router_end, [frame])
    known = until(lambda: f"{slash64}/64" in lab.client.run("ip", "-6", "route", "show", "dev", lab.device).out, within=2)
    if not known:
        lab.notes.append("the client did not take the advertised prefix")
    new_flows(lab)


def redirect(lab: Lab) -> None:
    """Lose the rules, and have the gateway redirect the flows to another machine on the LAN."""
    lose_rules(lab)
    lab.client.sysctl({"ipv4/conf/all/accept_redirects": 1, f"ipv4/conf/{lab.device}/accept_redirects": 1})
    gateway, client = lab.router(4), lab.own_address(4)
    quoted = craft.ip(client, lab.host(4), 17, craft.udp(client, lab.host(4), (40000, traffic.ECHO_PORT), b"datagram"))
    body = b"\x05\x01\0\0" + lab.lan_host(4).packed + quoted[:28]
    body = body[:2] + craft.checksum(body).to_bytes(2, "big") + body[4:]
    cable = lab.plan.cable
    frame = craft.ethernet(cable.mac, cable.router_mac, 0x0800, craft.ip(gateway, client, 1, body))
    lab.extra_sent += senders.frames(lab.hosts.router, cable.router_end, [frame])
    new_flows(lab)


def plug_in(lab: Lab) -> tuple[str, str]:
    """Plug a new device into the client, with a captured cable to the router; return both ends' names."""
    device, end = "drill-usb0", "usb-cable"
    lab.own[device] = {ip_address("192.168.42.20"), ip_address("fd42::20"), ip_address("fe80::ff:fe00:4202")}
    lab.client.batch(f"link add {device} address 02:00:00:00:42:02 gso_max_segs 1 type veth peer name {end} netns router")
    lab.hosts.router.batch(f"link set {end} up")
    lab.capture.add(lab.hosts.router, end, device)
    return device, end


def new_underlay(lab: Lab) -> None:
    """Plug in a phone: a new device with a better default route, and the rules go."""
    device, end = plug_in(lab)
    lab.hosts.router.batch(f"address add 192.168.42.1/24 dev {end}\naddress add fd42::1/64 dev {end}")
    lab.client.batch(
        f"link set {device} up\naddress add 192.168.42.20/24 dev {device}\naddress add fd42::20/64 dev {device}\n"
        f"route add default via 192.168.42.1 dev {device} metric 1\nroute add default via fd42::1 dev {device} metric 1"
    )
    # IPv6 waits for the kernel to notice the link.
    until(lambda: all(_leads_on(lab, device, version) for version in lab.versions), within=10)
    lose_rules(lab)
    new_flows(lab)
    for version in lab.versions:
        senders.shoot(lab, "bound to the new device", version, (2, 0), senders.datagram(), device=device)


def _leads_on(lab: Lab, device: str, version: int) -> bool:
    return lab.client.run("ip", f"-{version}", "route", "get", str(lab.host(version)), "oif", device).ok


def wrong_uplink(lab: Lab) -> None:
    """Move the default route to another cable, and lose the rules."""
    second = lab.plan.cables[1]
    lab.client.batch("\n".join(default_routes(second)))
    lose_rules(lab)
    new_flows(lab)
    for version in lab.versions:
        senders.shoot(lab, "bound to the second device", version, (2, 0), senders.datagram(), device=str(second.device))


def cable_flaps(lab: Lab) -> None:
    """Pull and plug the cable, and lose the routing rules in between, as network managers do when they reconnect."""
    cable = lab.plan.cable
    for number in range(20):
        lab.hosts.router.batch(f"link set {cable.router_end} down\nlink set {cable.router_end} up")
        if number == 10:
            lose_rules(lab)
    lab.client.try_batch("\n".join([*client_device(cable), *default_routes(cable)]))
    new_flows(lab)


def sysctls_flipped(lab: Lab) -> None:
    """Let another tool set the sysctls that wg-quick and hardening guides rely on, and lose the rules."""
    lab.client.sysctl(
        {
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/conf/all/src_valid_mark": 0,
            "ipv4/ip_forward": 1,
            "ipv6/conf/all/forwarding": 1,
            "ipv4/conf/all/accept_local": 1,
            "ipv4/conf/all/route_localnet": 1,
            "ipv4/conf/all/arp_ignore": 0,
            "ipv4/ip_nonlocal_bind": 1,
            "ipv6/ip_nonlocal_bind": 1,
        }
    )
    lab.client.try_batch("\n".join(default_routes(lab.plan.cable)))
    lose_rules(lab)
    new_flows(lab)


SCENARIOS = (
    Scenario("rule-lost", "the tunnel's routing rule is lost, wg0 still up", (48, 106), rule_lost, guide_leaks=True),
    Scenario("link-down", "wg0 is set down, its address kept", (55,), link_down, guide_leaks=True),
    Scenario("address-elsewhere", "wg0 is deleted, its address added elsewhere", (41, 56), address_elsewhere, guide_leaks=True),
    Scenario("dhcp-option-121", "classless routes by DHCP (CVE-2024-3661)", (78,), option_121, guide_leaks=True),
    Scenario("local-net", "a public range made local (CVE-2023-36672)", (79, 118), local_net),
    Scenario("rogue-ra", "a rogue router advertisement", (81,), rogue_advertisement),
    Scenario("icmp-redirect", "the gateway redirects the flows", (82,), redirect),
    Scenario("new-underlay", "a new underlay device with a better route", (74, 75), new_underlay),
    Scenario("wrong-uplink", "the default route moves to another device", (40,), wrong_uplink, needs=(Need.SECOND_DEVICE,)),
    Scenario("cable-flaps", "the cable flaps and the rules are lost", (76, 86), cable_flaps),
    Scenario("sysctls-flipped", "another tool flips the sysctls", (103,), sysctls_flipped),
)

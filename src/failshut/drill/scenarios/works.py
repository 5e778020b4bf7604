"""What must still work with the lock on, each seen at the far side. Whatever leaves meanwhile is judged as in an attack."""

from __future__ import annotations

import socket
from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import ip_address

from failshut.drill.attacker.senders import family
from failshut.drill.lab import Lab, NotHereError, echoes
from failshut.drill.network import traffic
from failshut.drill.network.topology import default_routes
from failshut.drill.network.tunnel import SERVER_DEVICE, fresh_keys
from failshut.drill.network.wait import pace
from failshut.drill.scenario import Kind, Need, Scenario
from failshut.drill.scenarios.flows import flush_conntrack
from failshut.drill.scenarios.guide import keep_carrying
from failshut.model.units import Address

# Longer than WireGuard's handshake retry and Linux' neighbour timers: what survives it has really recovered.
OUTAGE_SECONDS = 12.0
SEEN = "what was seen to work needs no control"


def tunnel(lab: Lab) -> None:
    """Use the tunnel in both families: it was brought up with the lock on, from the first handshake."""
    for name, worked in keep_carrying(lab).items():
        lab.check(name, worked)
    for version in lab.versions:
        lab.check(f"a large datagram, IPv{version}", _asks(lab, lab.host(version), traffic.ECHO_PORT, bytes(4000)))


def _asks(lab: Lab, address: Address, port: int, question: bytes = b"hello") -> bool:
    """Whether a datagram of the client's is answered within a second; it is asked three times."""
    with lab.client.inside():
        sock = socket.socket(family(address.version), socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(0.4)
        for _ in range(3):
            try:
                sock.sendto(question, (str(address), port))
                return sock.recv(65536) == question
            except OSError:
                continue
    return False


def _streams(lab: Lab, address: Address, port: int) -> bool:
    """Whether a TCP connection of the client's carries bytes both ways."""
    with lab.client.inside():
        sock = socket.socket(family(address.version), socket.SOCK_STREAM)
    sock.settimeout(2.0)
    with sock:
        try:
            sock.connect((str(address), port))
        except OSError:
            return False
        return echoes(sock)


def transport_over_ipv6(lab: Lab) -> None:
    """Reach the server by its IPv6 address, with no neighbour known beforehand."""
    lab.client.do("ip", "neigh", "flush", "all")
    for name, worked in keep_carrying(lab).items():
        lab.check(name, worked)


def use_ipv6_endpoint(lab: Lab) -> None:
    """Write the tunnel's config with the server's IPv6 endpoint."""
    lab.tunnel.write(lab.plan.endpoint(6))


def recovery(lab: Lab) -> None:
    """Lose the underlay for 12 s: the tunnel must carry everything again by itself."""
    end = lab.plan.cable.router_end
    lab.hosts.router.batch(f"link set {end} down")
    pace(OUTAGE_SECONDS)
    lab.hosts.router.batch(f"link set {end} up")
    lab.client.try_batch("\n".join(default_routes(lab.plan.cable)))
    # A TCP connection that was silent so long waits for its own timer, up to 13 s more; a new one needs no such patience.
    lab.traffic.add([traffic.tcp_upload(lab.host(version)) for version in lab.versions])
    for name, worked in keep_carrying(lab, within=20).items():
        lab.check(name, worked)


def blocked_endpoint(lab: Lab) -> None:
    """Block the server at the router from the start; nothing but handshakes may leave; then it comes up by itself."""
    endpoint = lab.tunnel.endpoint.address
    lab.hosts.router.batch(f"route replace blackhole {endpoint}/{endpoint.max_prefixlen}")
    lab.tunnel.up()
    lab.traffic.add(lab.background())
    lab.traffic.start()
    pace(2)
    lab.check("nothing came through meanwhile", not any(lab.carried().values()))
    lab.hosts.router.batch(f"route delete blackhole {endpoint}/{endpoint.max_prefixlen}")
    for name, worked in keep_carrying(lab, within=20).items():
        lab.check(name, worked)


def recreated(lab: Lab) -> None:
    """Delete the tunnel's link and bring it up anew: a rule that remembers an interface's index would refuse it."""
    lab.tunnel.down()
    lab.tunnel.up()
    for name, worked in keep_carrying(lab, within=20).items():
        lab.check(name, worked)


def key_rotation(lab: Lab) -> None:
    """Change the client's keys, and forget every tracked connection, as after minutes of silence."""
    old, lab.tunnel.client_keys = lab.tunnel.client_keys, fresh_keys()
    inner = ",".join(f"{each.ip}/{each.ip.max_prefixlen}" for each in lab.plan.tunnel_addresses)
    lab.tunnel.write()
    stripped = lab.client.do("wg-quick", "strip", str(lab.tunnel.config))
    lab.hosts.server.do(
        *("wg", "set", SERVER_DEVICE, "peer", old.public, "remove"),
        *("peer", lab.tunnel.client_keys.public, "allowed-ips", inner),
    )
    lab.client.do("wg", "syncconf", lab.tunnel.device, "/dev/stdin", stdin=stripped)
    flush_conntrack(lab)
    for name, worked in keep_carrying(lab, within=20).items():
        lab.check(name, worked)


def loopback(lab: Lab) -> None:
    """Talk to oneself by both families."""
    lab.world.tcp(lab.client, 9009, "self", echo=True)
    lab.world.udp(lab.client, 9009, "self", bytes)
    for version, address in ((4, "127.0.0.1"), (6, "::1")):
        to = ip_address(address)
        lab.check(f"TCP, IPv{version}", _streams(lab, to, 9009))
        lab.check(f"UDP, IPv{version}", _asks(lab, to, 9009))
    lab.check("TCP to its own LAN address", _streams(lab, lab.own_address(4), 9009))


def lan(lab: Lab) -> None:
    """Print, and ask a LAN host, with every neighbour forgotten: ARP and NDP find it again."""
    allowance = lab.policy.lan
    if allowance is None or (allowance.interfaces and not any(fnmatchcase(lab.device, each) for each in allowance.interfaces)):
        raise NotHereError("the policy allows no LAN on the first device")
    lab.client.do("ip", "neigh", "flush", "all")
    for each in lab.plan.lan_hosts:
        if any(each.ip in prefix for prefix in allowance.prefixes if prefix.version == each.version):
            lab.check(f"UDP to {each.ip}", _asks(lab, each.ip, traffic.ECHO_PORT))
            lab.check(f"TCP to {each.ip}", _streams(lab, each.ip, 9100))
    lab.check("something was tried", bool(lab.works))


def outbound(lab: Lab) -> None:
    """Use the pinned exceptions of the policy."""
    if not lab.policy.outbound:
        raise NotHereError("the policy has no [[allow.outbound]]")
    for each in lab.policy.outbound:
        address, port = each.to[0][0], int(each.port)
        service = f"outbound:{each.name}"
        if each.protocol.number == socket.IPPROTO_TCP:
            lab.world.tcp(lab.hosts.server, port, service, echo=True)
        elif port != traffic.DNS_PORT:
            lab.world.udp(lab.hosts.server, port, service, bytes)
        if each.uid is None:
            ask = _streams if each.protocol.number == socket.IPPROTO_TCP else _asks
            lab.check(each.name, ask(lab, address, port))


def inbound(lab: Lab) -> None:
    """Be called from an allowed prefix, on the link and from beyond it, with the tunnel holding the default route."""
    for name, opened in lab.open_services().items():
        lab.check(name, echoes(opened))


def sessions_before(lab: Lab) -> None:
    """Open sessions from outside before the lock."""
    lab.sessions.update(lab.open_services())
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, before arming", echoes(opened))


def sessions_survive(lab: Lab) -> None:
    """Go on with sessions that were open before the lock, and through 20 re-arms."""
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, after arming", echoes(opened))
    for _ in range(20):
        lab.rearm()
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, after re-arming", echoes(opened))
    for name, worked in keep_carrying(lab).items():
        lab.check(name, worked)


def wireguard_in_wireguard(lab: Lab) -> None:
    """Run another WireGuard through the tunnel: its transport is the tunnel's cargo."""
    host = lab.host(lab.versions[0])
    lab.world.udp(lab.hosts.server, 51999, "inner", bytes)
    lab.check("an inner transport", _asks(lab, host, 51999, b"\x01\0\0\0" + bytes(144)))


def _works(name: str, title: str, covers: tuple[int, ...], attack: Callable[[Lab], None], **more: object) -> Scenario:
    return Scenario(name, title, covers, attack, kind=Kind.WORKS, window=0.2, control=None, because=SEEN, **more)  # type: ignore[arg-type]


SCENARIOS = (
    _works("works-recovery", f"the tunnel after {OUTAGE_SECONDS:.0f} s of lost underlay", (76, 85), recovery, slow=True),
    _works(
        "works-blocked-endpoint", "the tunnel after its server was blocked", (13, 19, 83), blocked_endpoint, tunnel=False, slow=True
    ),
    _works("works-tunnel", "the tunnel, IPv4 and IPv6, large packets", (2, 87, 120), tunnel),
    _works(
        "works-transport6",
        "the tunnel by the server's IPv6 address",
        (120, 123),
        transport_over_ipv6,
        setup=use_ipv6_endpoint,
        needs=(Need.TWO_FAMILIES,),
    ),
    _works("works-recreated", "the tunnel, deleted and made anew", (57, 59), recreated),
    _works("works-key-rotation", "the tunnel after new keys and forgotten connections", (69, 121), key_rotation),
    _works("works-loopback", "loopback, IPv4 and IPv6", (119,), loopback, traffic=False),
    _works("works-lan", "the LAN: a printer, with ARP and NDP", (7, 123), lan),
    _works("works-outbound", "the pinned exceptions", (124,), outbound),
    _works("works-inbound", "SSH from outside, on the link and beyond it", (46, 122), inbound, needs=(Need.INBOUND,)),
    _works(
        "works-sessions",
        "SSH sessions opened before arming",
        (122,),
        sessions_survive,
        before=sessions_before,
        needs=(Need.INBOUND,),
    ),
    _works("works-inner-wireguard", "another WireGuard inside the tunnel", (110,), wireguard_in_wireguard),
)

"""What must still work with the lock on, each seen at the far side. Whatever leaves meanwhile is judged as in an attack."""

from __future__ import annotations

import socket
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import family
from failshut.drill.judgement.judge import LACP_GROUP, STP_GROUP
from failshut.drill.lab import Lab, NotHereError, echoes
from failshut.drill.network import traffic
from failshut.drill.network.topology import default_routes
from failshut.drill.network.tunnel import SERVER_DEVICE, WG_QUICK
from failshut.drill.network.wait import pace, until
from failshut.drill.network.wireguard import fresh_keys
from failshut.drill.network.world import echo
from failshut.drill.scenario import Kind, Need, Scenario
from failshut.drill.scenarios.flows import flush_conntrack
from failshut.drill.scenarios.guide import keep_carrying
from failshut.model.packet import ETHERTYPE_EAPOL, ETHERTYPE_SLOW
from failshut.model.policy import Lan
from failshut.model.units import Address, Protocol

# Longer than WireGuard's handshake retry and Linux' neighbour timers: what survives it has really recovered.
OUTAGE_SECONDS = 12.0
GREETING, INNER_PORT = b"are you still there? ", 7009
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
    # Of a double hop it is the outer one that goes by the router.
    endpoint = (lab.plan.outer.endpoints[0] if lab.plan.outer else lab.tunnel.endpoint).address
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
    tunnel = lab.wireguard
    old, tunnel.client_keys = tunnel.client_keys, fresh_keys()
    inner = ",".join(f"{each.ip}/{each.ip.max_prefixlen}" for each in lab.plan.tunnel_addresses)
    tunnel.write()
    stripped = lab.client.do("wg-quick", "strip", str(tunnel.config), timeout=WG_QUICK)
    lab.hosts.server.do(
        *("wg", "set", SERVER_DEVICE, "peer", old.public, "remove"),
        *("peer", tunnel.client_keys.public, "allowed-ips", inner),
    )
    lab.client.do("wg", "syncconf", tunnel.device, "/dev/stdin", stdin=stripped)
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


_PRINTING = 9100


def lan(lab: Lab) -> None:
    """Print, and ask a LAN host, with every neighbour forgotten: ARP and NDP find it again."""
    allowance = lab.policy.lan
    if allowance is None or (allowance.interfaces and not any(fnmatchcase(lab.device, each) for each in allowance.interfaces)):
        raise NotHereError("the policy allows no LAN on the first device")
    if allowance.on_demand:
        raise NotHereError("the LAN is open on demand only (failshut allow lan)")
    lab.client.do("ip", "neigh", "flush", "all")
    for each in lab.plan.lan_hosts:
        if any(each.ip in prefix for prefix in allowance.prefixes if prefix.version == each.version):
            if _serves(allowance, Protocol.UDP, traffic.ECHO_PORT):
                lab.check(f"UDP to {each.ip}", _asks(lab, each.ip, traffic.ECHO_PORT))
            if _serves(allowance, Protocol.TCP, _PRINTING):
                lab.check(f"TCP to {each.ip}", _streams(lab, each.ip, _PRINTING))
    if not lab.works:
        raise NotHereError("the policy allows none of the services that the lab's LAN has")


def _serves(allowance: Lan, protocol: Protocol, port: int) -> bool:
    return not allowance.services or any(each.protocol is protocol and each.low <= port <= each.high for each in allowance.services)


def outbound(lab: Lab) -> None:
    """Use the pinned exceptions of the policy."""
    if not lab.policy.outbound:
        raise NotHereError("the policy has no [[allow.outbound]]")
    for each in lab.policy.outbound:
        if each.cgroup or each.on_demand:
            # Seen to work by their own tests: a control group of the machine's can't be entered from here, and a gate is shut.
            continue
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
    """Be called from an allowed prefix, on the link and from beyond it, by TCP and UDP, the tunnel holding the default route."""
    for name, opened in lab.open_services().items():
        lab.check(name, echoes(opened))


def sessions_before(lab: Lab) -> None:
    """Open sessions from outside before the lock."""
    lab.sessions.update(lab.open_services())
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, before arming", echoes(opened))
    # A last acknowledgement of a caller's, seen by the lock, would be the caller's first word.
    until(lambda: lab.world.is_acknowledged, within=3)


def sessions_survive(lab: Lab) -> None:
    """Go on with sessions that were open before the lock, the service the first to speak; then with the tunnel; then re-armed.

    What it says then can't be told from a program's packet; it must neither end the session nor be lost once the caller speaks.
    """
    spoken = {name: _speaks_first(lab, opened) for name, opened in lab.sessions.items()}
    for name, said in spoken.items():
        lab.check(f"{name}, the service spoke first", said or not _is_stream(lab.sessions[name]))
    # The second time the kernel sends it by itself, 200 ms later.
    pace(0.5)
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, after arming", echoes(opened, greeting=GREETING if spoken[name] else b""))
    lab.bring_up()
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, with the tunnel up", echoes(opened))
    # A session that the lock has never heard of, and the tunnel holding the default route: as after `conntrack -F`.
    until(lambda: lab.world.is_acknowledged, within=3)
    flush_conntrack(lab)
    spoken = {name: _speaks_first(lab, opened) for name, opened in lab.sessions.items()}
    pace(0.5)
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, forgotten, the service spoke first", echoes(opened, greeting=GREETING if spoken[name] else b""))
    for _ in range(20):
        lab.rearm()
    for name, opened in lab.sessions.items():
        lab.check(f"{name}, after re-arming", echoes(opened))
    for name, worked in keep_carrying(lab).items():
        lab.check(name, worked)


def _is_stream(session: socket.socket | None) -> bool:
    return session is not None and session.type == socket.SOCK_STREAM


def _speaks_first(lab: Lab, session: socket.socket | None) -> bool:
    """Have the service's end of a TCP session send; whether the session is one that has such an end."""
    if session is None or not _is_stream(session):
        return False
    try:
        (peer, port), service_port = session.getsockname()[:2], session.getpeername()[1]
    except OSError:
        # It has ended; the check that follows says so.
        return False
    service = next(each.name for each in lab.policy.inbound if int(each.port) == service_port)
    return lab.world.speak_first(f"inbound:{service}", ip_address(peer), port, GREETING)


def server_first(lab: Lab) -> None:
    """Be called through the tunnel after a silence so long that the connection of its transport is forgotten."""
    lab.world.udp(lab.client, INNER_PORT, "inner service", echo)
    for version in lab.versions:
        lab.check(f"the tunnel carries a question, IPv{version}", _asks(lab, lab.host(version), traffic.ECHO_PORT))
    lab.client.sysctl({"netfilter/nf_conntrack_udp_timeout": 1, "netfilter/nf_conntrack_udp_timeout_stream": 1})
    forgotten = until(lambda: not _is_transport_tracked(lab), within=8, step=0.05)
    if not forgotten:
        # A kernel that does not list its connections, or one whose WireGuard does not keep silent.
        flush_conntrack(lab)
    for version in lab.versions:
        inner = lab.plan.tunnel_address(version)
        if inner is None:
            continue
        with lab.hosts.server.inside():
            sock = socket.socket(family(version), socket.SOCK_DGRAM)
        with sock:
            sock.bind((str(lab.host(version)), 0))
            sock.sendto(b"are you still there?", (str(inner), INNER_PORT))
            heard = until(lambda: lab.world.received("inner service", version=version) > 0, within=2)  # noqa: B023
            lab.check(f"the server's first word after a silence, IPv{version}", heard)
        if version != lab.versions[-1]:
            # The answer has opened the connection again.
            flush_conntrack(lab)


def _is_transport_tracked(lab: Lab) -> bool:
    """Whether the client tracks a connection to the server's port; True where the kernel does not list them."""
    port = f"port={int(lab.tunnel.endpoint.port)} "
    with lab.client.inside():
        listing = Path("/proc/thread-self/net/nf_conntrack")
        return not listing.exists() or any(port in line for line in listing.read_text().splitlines())


def link_control(lab: Lab) -> None:
    """Speak to the link's own devices: a real bridge with spanning tree; a supplicant's and a team daemon's frames, of root."""
    mac, port_group = lab.plan.cable.mac, "01:80:c2:00:00:03"
    start = bytes((2, 1, 0, 0))
    lab.eapol.add(start)
    # IEEE 802.1AX §6.4.2.3: subtype and version, then TLVs to 110 bytes.
    aggregation = bytes((1, 1, 1, 20)) + bytes(106)
    for name, frame in (
        ("EAPOL", craft.ethernet(port_group, mac, ETHERTYPE_EAPOL[0], start)),
        ("link aggregation", craft.ethernet(LACP_GROUP, mac, ETHERTYPE_SLOW, aggregation)),
    ):
        lab.extra_sent += senders.frames(lab.client, lab.device, [frame])
        lab.check(name, until(partial(lab.capture.saw, frame), within=5))
    lab.client.batch(
        "link add drill-br0 type bridge stp_state 1 forward_delay 200 hello_time 100 mcast_snooping 0\n"
        f"link set drill-br0 addrgenmode none\nlink set {lab.device} master drill-br0\nlink set drill-br0 up"
    )
    group = bytes.fromhex(STP_GROUP.replace(":", "") + mac.replace(":", ""))
    lab.check("spanning tree", until(lambda: lab.capture.saw(group), within=10))


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
    _works("works-inbound", "SSH and the like from outside, on the link and beyond it", (46, 122), inbound, needs=(Need.INBOUND,)),
    _works(
        "works-sessions",
        "sessions opened before arming, the service speaking first",
        (122,),
        sessions_survive,
        before=sessions_before,
        tunnel=False,
        needs=(Need.INBOUND,),
    ),
    _works("works-server-first", "the server's first word after a long silence", (121,), server_first, traffic=False, slow=True),
    _works("works-link-control", "EAPOL, spanning tree, link aggregation", (105,), link_control, tunnel=False),
    _works("works-inner-wireguard", "another WireGuard inside the tunnel", (110,), wireguard_in_wireguard),
)

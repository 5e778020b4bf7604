"""Tailscale beside the tunnel: what tailscaled needs works; its mark, its port or its owner alone open nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from failshut.drill.attacker import craft, senders
from failshut.drill.attacker.senders import SO_MARK, attempts, family
from failshut.drill.lab import Lab, echoes
from failshut.drill.network import traffic
from failshut.drill.network.tailscaled import MAGIC_DNS, OWN, PEER, Tailscaled, mark, tailscaled
from failshut.drill.network.wait import until
from failshut.drill.scenario import Kind, Need, Scenario
from failshut.drill.scenarios.endpoint import CAP_NET_RAW, LOOT, SOMEBODY
from failshut.emit.routing import emit_rules
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.marks import TAILSCALE
from failshut.model.packet import TCP, UDP
from failshut.model.policy import Tailscale
from failshut.model.routing import IpVersion
from failshut.model.units import Address

SERVER_INDEX, CALLER_INDEX, INSIDE_PORT = 2, 23, 7010
FORGED = "root with CAP_NET_RAW alone, in the machine's own network namespace, can wear tailscaled's mark and port"
SEEN = "what was seen to work needs no control"
OTHER_MARKS = (0x40000, 0xC0000, 0x90000)


def _settings(lab: Lab) -> Tailscale:
    return lab.policy.tailscale or Tailscale()


def works_first(lab: Lab) -> None:
    """Start tailscaled before the tunnel, with the routing that arming adds: all works, and its look-ups go into the tunnel."""
    works(lab, tunnel_last=True)


def works(lab: Lab, *, tunnel_last: bool = False) -> None:
    """Reach a peer, a control server and the tailnet with the tunnel up; be reached by a peer, and over the tailnet."""
    port = int(_settings(lab).port)
    with tailscaled(lab.client, port) as running:
        running.route()
        if tunnel_last:
            _add_routing(lab)
            lab.bring_up()
            for version in lab.versions:
                lab.check(f"its own look-ups, IPv{version}", _asks(lab, lab.resolver(version), traffic.DNS_PORT, worn=TAILSCALE))
        # The strictest reverse-path filter, as some distributions set it.
        lab.client.sysctl({f"ipv4/conf/{each}/rp_filter": 1 for each in ("all", lab.device)})
        lab.tailscaled.add((UDP, port))
        for version in (4, 6):
            name = f"IPv{version}"
            lab.check(f"a peer answers, {name}", _asks_peer(lab, running, version))
            lab.check(f"a control server answers, {name}", _asks_server(lab, version))
            lab.check(f"a peer speaks first, {name}", _peer_speaks_first(lab, running, version, port))
            lab.check(f"a program reaches the tailnet, {name}", _asks(lab, PEER[version], INSIDE_PORT))
            lab.check(f"the tailnet reaches a program, {name}", _is_asked(lab, running, version))
        lab.check("names of the tailnet", _asks(lab, MAGIC_DNS, traffic.DNS_PORT))
        before = lab.carried()
        lab.check("the tunnel carries the rest", until(lambda: _all_grew(before, lab.carried()), within=5))


def _add_routing(lab: Lab) -> None:
    routing = lower_routing(lab.policy, HostFacts())
    for version in IpVersion:
        lab.client.do("ip", f"-{version}", "-batch", "-", stdin=emit_rules(routing.of(version)))


def _all_grew(before: dict[str, int], after: dict[str, int]) -> bool:
    return all(after[name] > count for name, count in before.items())


def _asks_peer(lab: Lab, running: Tailscaled, version: int) -> bool:
    sock = running.sockets[version]
    sock.settimeout(0.4)
    for _ in range(3):
        try:
            sock.sendto(b"disco", (str(lab.host(version)), traffic.ECHO_PORT))
            answered = sock.recv(64) == b"disco"
        except OSError:
            continue
        # From the underlay's own address: not through the tunnel.
        return answered and lab.world.received("echo", lab.own_address(version)) > 0
    return False


def _asks_server(lab: Lab, version: int) -> bool:
    settings = _settings(lab)
    if not settings.tcp:
        return True
    if not any(name == "control" for name in lab.sessions):
        lab.world.tcp(lab.hosts.server, int(settings.tcp[0]), "control", echo=True)
        lab.sessions["control"] = None
    servers = [each[min(1, each.num_addresses - 1)] for each in settings.servers if each.version == version]
    if settings.servers and not servers:
        return True
    server = servers[0] if servers else lab.plan.public(version, SERVER_INDEX)
    with lab.client.inside():
        sock = socket.socket(family(version))
    with sock:
        mark(sock)
        sock.settimeout(2.0)
        sock.bind(("", 0))
        lab.tailscaled.add((TCP, sock.getsockname()[1]))
        try:
            sock.connect((str(server), int(settings.tcp[0])))
        except OSError:
            return False
        return echoes(sock) and sock.getsockname()[0] == str(lab.own_address(version))


def _peer_speaks_first(lab: Lab, running: Tailscaled, version: int, port: int) -> bool:
    caller = lab.plan.public(version, CALLER_INDEX)
    with lab.hosts.server.inside():
        sock = socket.socket(family(version), socket.SOCK_DGRAM)
    with sock:
        # IP_FREEBIND (15 at SOL_IP): the server holds no public address.
        sock.setsockopt(socket.SOL_IP, 15, 1)
        sock.bind((str(caller), 45678))
        sock.settimeout(1.0)
        sock.sendto(b"call me", (str(lab.own_address(version)), port))
        if not running.hears(version, caller):
            return False
        try:
            return sock.recv(64) == b"call me"
        except OSError:
            return False


def _asks(lab: Lab, address: Address, port: int, *, worn: int = 0) -> bool:
    with lab.client.inside():
        sock = socket.socket(family(address.version), socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(1.0)
        mark(sock, worn)
        question = traffic.dns_query()
        try:
            sock.sendto(question, (str(address), port))
            # An echo or an answer: the same number.
            return sock.recv(512)[:2] == question[:2]
        except OSError:
            return False


def _is_asked(lab: Lab, running: Tailscaled, version: int) -> bool:
    with lab.client.inside():
        sock = socket.socket(family(version), socket.SOCK_DGRAM)
    with sock:
        sock.bind((str(OWN[version]), INSIDE_PORT))
        sock.settimeout(1.0)
        segment = craft.udp(PEER[version], OWN[version], (40000, INSIDE_PORT), b"knock")
        running.inject(craft.ip(PEER[version], OWN[version], UDP, segment))
        try:
            return sock.recv(64) == b"knock"
        except OSError:
            return False


def near_misses(lab: Lab) -> None:
    """As root, send what is almost tailscaled's: without the mark, from another port, to names' ports, by another mark."""
    port, own = int(_settings(lab).port), int(TAILSCALE)
    probes: list[tuple[str, int, int, int]] = [
        (f"no mark, {port} to {port}", 0, port, port),
        (f"the mark, another port to {port}", own, 0, port),
        ("the mark, its port to 53", own, port, 53),
        ("the mark, its port to 853", own, port, 853),
        ("the mark, its port to 123", own, port, 123),
        ("the mark, its port to 443", own, port, 443),
        ("the mark, its port to 5353", own, port, 5353),
        ("the mark, any port to 53", own, 0, 53),
        ("the mark, any port to 3478", own, 0, 3478),
        *((f"mark {each:#x}, its port to {port}", each, port, port) for each in OTHER_MARKS),
    ]
    for version in (4, 6):
        for name, value, source, target in probes:
            senders.shoot(lab, name, version, (socket.SOCK_DGRAM, 0), _datagram(value, source, target))
        for target in (53, 80, 853, 8080):
            senders.shoot(lab, f"the mark, TCP to {target}", version, (socket.SOCK_STREAM, 0), _connecting(own, target))
        senders.shoot(lab, "no mark, TCP to 443", version, (socket.SOCK_STREAM, 0), _connecting(0, 443))
        protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
        senders.shoot(lab, "the mark, ping", version, (socket.SOCK_DGRAM, protocol), _pinging)
        if (inner := lab.plan.tunnel_address(version)) is not None:
            sending = _datagram(own, port, 3478, str(inner))
            senders.shoot(lab, "the mark, the tunnel's address", version, (socket.SOCK_DGRAM, 0), sending)


def _datagram(value: int, source: int, target: int, local: str = "") -> senders.Send:
    def send(sock: socket.socket, address: Address) -> int:
        if not sock.getsockname()[1]:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, value)
            sock.bind((local, source))
        return sock.sendto(LOOT, (str(address), target))

    return send


def _connecting(value: int, port: int) -> senders.Send:
    def send(sock: socket.socket, address: Address) -> None:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, value)
        sock.connect((str(address), port))

    return send


def _pinging(sock: socket.socket, address: Address) -> int:
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, TAILSCALE)
    return senders.pinging(sock, address)


def _forge(device: str, address: Address, kind: socket.SocketKind, source: int, target: int) -> str:
    """Wear tailscaled's mark and port, if the kernel lets this user; return what happened."""
    with socket.socket(family(address.version), kind) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, TAILSCALE)
        senders.bind_to(sock, device)
        sock.bind(("", source))
        if kind is socket.SOCK_STREAM:
            attempts(lambda: sock.connect((str(address), target)))
        else:
            attempts(lambda: sock.sendto(LOOT, (str(address), target)))
    return "sent"


def _forge_raw(device: str, address: Address, packet: bytes) -> str:
    with socket.socket(family(address.version), socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, TAILSCALE)
        senders.bind_to(sock, device)
        attempts(lambda: sock.sendto(packet, (str(address), 0)))
    return "sent"


def _forging(lab: Lab, uid: int) -> None:
    port = int(_settings(lab).port)
    tcp = next((int(each) for each in _settings(lab).tcp), 443)
    for version in (4, 6):
        forgers: tuple[tuple[str, Callable[[Address], Callable[[], str]]], ...] = (
            ("a datagram from its port", lambda to: partial(_forge, lab.device, to, socket.SOCK_DGRAM, port, port)),
            (f"TCP to {tcp}", lambda to: partial(_forge, lab.device, to, socket.SOCK_STREAM, 0, tcp)),
            ("a raw packet from its port", lambda to: partial(_forge_raw, lab.device, to, _raw(lab, to, port))),
        )
        for name, forger in forgers:
            probe = f"uid {uid}: {name}, IPv{version}"
            target = lab.target(probe).of(version)
            with lab.client.inside():
                said = senders.as_user(uid, forger(target), keep=(CAP_NET_RAW,))
            lab.extra_sent += senders.TRIES
            if said != "sent":
                lab.give_up(probe, f"the kernel refuses it: {said}")


def _raw(lab: Lab, target: Address, port: int) -> bytes:
    own = lab.own_address(target.version)
    return craft.ip(own, target, UDP, craft.udp(own, target, (port, port), LOOT))


def forged_by_a_user(lab: Lab) -> None:
    """Wear tailscaled's mark and port by CAP_NET_RAW alone, not as root: by sockets, and by raw packets beside a tailscaled."""
    _forging(lab, SOMEBODY)


def forged_by_root(lab: Lab) -> None:
    """Wear them as root with CAP_NET_RAW alone, as a container with the machine's own network may."""
    _forging(lab, 0)


def first(lab: Lab) -> None:
    """Start tailscaled before the tunnel: wg-quick's rules come before tailscaled's, and lead all of it into the tunnel."""
    lost_routes(lab, tunnel_last=True)


def lost_routes(lab: Lab, *, tunnel_last: bool = False) -> None:
    """End tailscaled, then lose every routing rule: what was for the tailnet must not leave in the clear."""
    targets = {version: lab.target(f"once in the tunnel, IPv{version}").of(version) for version in (4, 6)}
    with tailscaled(lab.client, int(_settings(lab).port)) as running:
        running.route()
        if tunnel_last:
            lab.bring_up()
        for version, sock in running.sockets.items():
            # To where only a leak could come from: tailscaled's own may leave, names and what has no mark may not.
            attempts(partial(sock.sendto, traffic.dns_query(), (str(lab.resolver(version)), traffic.DNS_PORT)))
        flows = [traffic.udp_unbound(each) for each in (*PEER.values(), MAGIC_DNS, *targets.values())]
        lab.traffic.add(flows)
        until(lambda: all(each.sent for each in flows), within=5)
    # Its interface is gone, its routes with it; then the tunnel's rules go.
    for version in (4, 6):
        lab.watch(f"for the tailnet, IPv{version}", partial(_is_for, PEER[version]))
        lab.client.run("ip", f"-{version}", "rule", "flush")
        lab.client.run("ip", f"-{version}", "rule", "add", "pref", "100", "table", "main")


def _is_for(address: Address, packet: object) -> bool:
    return getattr(packet, "target", None) == address


_NEEDED = (Need.TAILSCALE,)
SCENARIOS = (
    Scenario(
        "works-tailscale",
        "Tailscale beside the tunnel: peers, servers, names",
        (),
        works,
        kind=Kind.WORKS,
        window=0.2,
        control=None,
        because=SEEN,
        needs=_NEEDED,
    ),
    Scenario(
        "works-tailscale-first",
        "tailscaled started before the tunnel",
        (),
        works_first,
        kind=Kind.WORKS,
        tunnel=False,
        window=0.2,
        control=None,
        because=SEEN,
        needs=_NEEDED,
    ),
    Scenario("tailscale-near-misses", "root sends what is almost tailscaled's", (32,), near_misses, traffic=False, needs=_NEEDED),
    Scenario(
        "tailscale-forged",
        "tailscaled's mark and port by CAP_NET_RAW, not root",
        (33, 36, 42),
        forged_by_a_user,
        traffic=False,
        needs=(Need.TAILSCALE, Need.REAL_ROOT),
    ),
    Scenario("tailscale-lost", "tailscaled dies, the routing rules go", (48, 106), lost_routes, needs=_NEEDED),
    Scenario("tailscale-first", "tailscaled before the tunnel, then both gone", (48, 106), first, tunnel=False, needs=_NEEDED),
    Scenario(
        "tailscale-forged-by-root",
        "tailscaled's mark and port by root with CAP_NET_RAW",
        (32,),
        forged_by_root,
        traffic=False,
        limit=FORGED,
        needs=_NEEDED,
    ),
)

"""One lab: the built network, its tunnel, its traffic and its capture, and what an attack may do with them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from failshut.drill.judgement.judge import Case, Connection
from failshut.drill.network import rules, traffic
from failshut.drill.network.capture import Capture
from failshut.drill.network.netns import Namespace, SetUpError
from failshut.drill.network.openvpn import OpenVpnTunnel
from failshut.drill.network.plan import Plan, callers_of
from failshut.drill.network.topology import Hosts
from failshut.drill.network.traffic import Flow, Traffic
from failshut.drill.network.tunnel import LabTunnel
from failshut.drill.network.wait import until
from failshut.drill.network.world import World, dns_answer, echo, silence
from failshut.drill.rules.source import Loadable, Lock, RuleSource
from failshut.drill.workers.process import Progress
from failshut.model.packet import Packet
from failshut.model.policy import Inbound, Policy
from failshut.model.units import Address, Mark, Protocol

# In seconds, on a machine that has other things to do.
_CARRIED_WITHIN = 60.0
HOST_INDEX, RESOLVER_INDEX, FIRST_TARGET = 1, 53, 100


class NotHereError(RuntimeError):
    """The scenario can't be tried on this machine or with this policy."""


# Whether a leaked packet belongs to a probe.
Watch = Callable[[Packet], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """A public address of each family that one probe alone sends to, so that a leak names its probe."""

    v4: IPv4Address
    v6: IPv6Address

    def of(self, version: int) -> Address:
        """Return the address of a family."""
        return self.v4 if version == 4 else self.v6

    def is_hit(self, packet: Packet) -> bool:
        """Whether a packet goes to, or asks for, this target."""
        asked = packet.arp.target if packet.arp else None
        return packet.target in (self.v4, self.v6) or asked == self.v4


@dataclass(slots=True)
class Lab:
    """What an attack is given."""

    policy: Policy
    plan: Plan
    source: RuleSource
    lock: Lock
    other_lock: Lock
    hosts: Hosts
    tunnel: LabTunnel | OpenVpnTunnel
    world: World
    traffic: Traffic
    capture: Capture
    window: float
    stamp: Mark
    real_root: bool = True
    targets: dict[str, Target] = field(default_factory=dict)
    watched: dict[str, Watch] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    works: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sessions: dict[str, socket.socket | None] = field(default_factory=dict)
    connections: set[Connection] = field(default_factory=set)
    eapol: set[bytes] = field(default_factory=set)
    tailscaled: set[tuple[int, int]] = field(default_factory=set)
    own: dict[str, set[Address]] = field(default_factory=dict)
    beside: tuple[Loadable, ...] = ()
    lead: float = 0.0
    # Told how much of something long is done, so that it is not taken for a run that hangs.
    progress: Progress = field(default=lambda _: None)
    extra_sent: int = 0
    # What else sends and counts itself, such as a flood: asked while it runs.
    counters: list[Callable[[], int]] = field(default_factory=list)
    attack_began: float = 0.0
    attack_ended: float = 0.0

    @property
    def wireguard(self) -> LabTunnel:
        """The tunnel, for what is tried on WireGuard itself. Raises NotHereError for another."""
        if isinstance(self.tunnel, LabTunnel):
            return self.tunnel
        raise NotHereError("it is about WireGuard, and the policy's tunnel is OpenVPN's")

    def must_be_direct(self) -> None:
        """Raise NotHereError where the tunnel's own packets go through another tunnel: none of them is on the cable."""
        if self.plan.outer:
            raise NotHereError(f"it is about the tunnel's own packets on the cable, and {self.plan.outer.interface} carries them")

    @property
    def client(self) -> Namespace:
        """The machine under attack."""
        return self.hosts.client

    @property
    def device(self) -> str:
        """The client's first underlay device."""
        return str(self.plan.cable.device)

    @property
    def versions(self) -> tuple[int, ...]:
        """The families the tunnel carries."""
        return tuple(each for each in (4, 6) if self.plan.tunnel_address(each))

    @property
    def is_locked(self) -> bool:
        """Whether the lock is what this run tries."""
        return self.source is RuleSource.LOCK

    @property
    def has_own_rules(self) -> bool:
        """Whether this run has rules that an attack may load again."""
        return self.source in (RuleSource.LOCK, RuleSource.BESIDE)

    @property
    def sent(self) -> int:
        """How many packets were handed to the kernel so far, refused ones included."""
        return self.traffic.sent + self.extra_sent + sum(each() for each in self.counters)

    def host(self, version: int) -> Address:
        """Return the public host the background traffic goes to."""
        return self.plan.public(version, HOST_INDEX)

    def resolver(self, version: int) -> Address:
        """Return the public resolver."""
        return self.plan.public(version, RESOLVER_INDEX)

    def own_address(self, version: int) -> Address:
        """Return the client's own address on its first cable."""
        return self.plan.cable.client4.ip if version == 4 else self.plan.cable.client6.ip

    def router(self, version: int) -> Address:
        """Return the router's address on the client's first cable."""
        return self.plan.cable.router4 if version == 4 else self.plan.cable.router6

    def lan_host(self, version: int) -> Address:
        """Return the LAN host."""
        return next(each.ip for each in self.plan.lan_hosts if each.version == version)

    def target(self, probe: str) -> Target:
        """Return the target of a named probe, and have the control check that the probe is seen."""
        if probe not in self.targets:
            index = FIRST_TARGET + len(self.targets)
            v4, v6 = self.plan.internet4[index], self.plan.internet6[index]
            self.targets[probe] = Target(v4, v6)
            self.watched[probe] = self.targets[probe].is_hit
        return self.targets[probe]

    @property
    def all_seen(self) -> bool:
        """Whether something of every probe that has a target of its own was seen on a cable."""
        aimed = (each for name, each in self.targets.items() if name in self.watched)
        return all(self.capture.saw(each.v4.packed) or self.capture.saw(each.v6.packed) for each in aimed)

    def watch(self, probe: str, belongs: Watch) -> None:
        """Name a probe that has no target of its own: `belongs` tells its packets among the leaks."""
        self.watched[probe] = belongs

    def give_up(self, probe: str, reason: object) -> None:
        """Say that a probe can't be tried on this machine: it counts for nothing, and is reported."""
        self.watched.pop(probe, None)
        self.unavailable[probe] = str(reason)

    def check(self, name: str, worked: bool) -> None:
        """Record whether something that must still work did."""
        self.works[name] = worked

    def rearm(self) -> None:
        """Load the rules once more, where this run has its own."""
        if self.has_own_rules:
            rules.reload(self.client, self.plan, self.source, self.lock, self.beside)

    def case(self) -> Case:
        """Return what the judge must know about this lab."""
        own: dict[str, set[Address]] = {
            str(each.device): {each.client4.ip, each.client6.ip, each.link_local} for each in self.plan.cables
        }
        for device, addresses in self.own.items():
            own.setdefault(device, set()).update(addresses)
        return Case(
            self.policy,
            {name: frozenset(each) for name, each in own.items()},
            frozenset(self.connections),
            {str(each.device): frozenset({each.client4.network, each.client6.network}) for each in self.plan.cables},
            frozenset(self.eapol),
            frozenset(self.tailscaled),
        )

    @contextlib.contextmanager
    def sending(self, family: socket.AddressFamily, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
        """Give an attack a socket of the client's, non-blocking so that no attack can hang on it."""
        with self.client.inside():
            sock = socket.socket(family, kind, protocol)
        with sock:
            sock.setblocking(False)
            yield sock

    def background(self) -> list[Flow]:
        """Return the flows that every attack meets: through the tunnel, in each family that it carries."""
        flows = []
        for version in self.versions:
            host, inner = self.host(version), self.plan.tunnel_address(version)
            flows += [
                traffic.tcp_upload(host),
                traffic.udp_connected(host),
                traffic.udp_unbound(host),
                traffic.dns_lookups(self.resolver(version)),
            ]
            if inner is not None:
                flows.append(traffic.udp_bound(inner, host))
        return flows

    def carried(self) -> dict[str, int]:
        """Return what reached the server through the tunnel, by service and family: the source is the tunnel's address."""
        counts = {}
        for version in self.versions:
            for service in ("upload", "echo", "sink", "dns"):
                source = self.plan.tunnel_address(version)
                counts[f"{service}{version}"] = self.world.received(service, source, version)
        return counts

    def await_carried(self) -> bool:
        """Wait until every background flow was seen at the server, through the tunnel."""
        return until(lambda: all(self.carried().values()), within=_CARRIED_WITHIN)

    def bring_up(self) -> None:
        """Bring up the tunnel and the background traffic, and see that the tunnel carries it."""
        self.tunnel.up()
        self.traffic.add(self.background())
        self.traffic.start()
        if not self.await_carried():
            missing = [name for name, count in self.carried().items() if not count]
            raise SetUpError(f"the tunnel carried nothing of: {', '.join(missing)}")

    def open_inbound(self, host: Namespace, source: Address, service: Inbound) -> socket.socket | None:
        """Connect a socket from `source` on `host` to a service of the client; None when nobody answers in 2 s."""
        version, port, protocol = source.version, int(service.port), service.protocol
        local, device = self.own_address(version), self.device
        kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
        with host.inside():
            sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
        # IP_FREEBIND (15 at SOL_IP): the server answers for addresses that no interface of its holds.
        sock.setsockopt(socket.SOL_IP, 15, 1)
        sock.bind((str(source), 0))
        sock.settimeout(2.0)
        self.connections.add(Connection(protocol.number, local, port, source, sock.getsockname()[1], device))
        try:
            sock.connect((str(local), port))
        except OSError:
            sock.close()
            return None
        return sock

    def open_services(self) -> dict[str, socket.socket | None]:
        """Call each service, from the LAN and from beyond it, by every family it may be called from."""
        opened = {}
        for service in self.policy.inbound:
            for version in (4, 6):
                callers = callers_of(self.plan, service, version)
                for where, source in callers.items():
                    host = self.hosts.lan if where == "on the link" else self.hosts.server
                    name = f"{service.name} from {source} ({where})"
                    opened[name] = self.open_inbound(host, source, service)
        return opened

    def serve(self) -> None:
        """Start everybody the client may talk to."""
        server, lan = self.hosts.server, self.hosts.lan
        self.world.tcp(server, traffic.UPLOAD_PORT, "upload")
        self.world.udp(server, traffic.ECHO_PORT, "echo", echo)
        self.world.udp(server, traffic.SINK_PORT, "sink", silence)
        self.world.udp(server, traffic.DNS_PORT, "dns", dns_answer)
        self.world.udp(lan, traffic.DNS_PORT, "lan-dns", dns_answer)
        self.world.udp(lan, traffic.ECHO_PORT, "lan-echo", echo)
        self.world.tcp(lan, 9100, "printer", echo=True)
        for inbound in self.policy.inbound:
            if inbound.protocol is Protocol.TCP:
                self.world.tcp(self.client, int(inbound.port), f"inbound:{inbound.name}", echo=True)
            else:
                # Bound to no address it would answer with the tunnel's (docs/known-limits.md).
                own = [str(self.own_address(version)) for version in (4, 6)]
                self.world.udp(self.client, int(inbound.port), f"inbound:{inbound.name}", echo, at=own)
        self.world.start()


def echoes(sock: socket.socket | None, *, greeting: bytes = b"") -> bool:
    """Whether a connection carries bytes both ways, in three rounds; `greeting` is what must come ahead of the first answer."""
    if sock is None:
        return False
    try:
        for number in range(3):
            message = f"round {number}".encode()
            sock.sendall(message)
            expected, answer = (b"" if number else greeting) + message, b""
            while len(answer) < len(expected):
                more = sock.recv(64)
                answer += more
                if not more:
                    return False
            if answer != expected:
                return False
    except OSError:
        return False
    return True

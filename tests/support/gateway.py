"""A machine that forwards: beside the tunnel's cable it has a network of clients, one of strangers, and a bridge of guests.

client ── eth1 ┐            ┌ eth0 ── the server
stranger─ eth2 ┤ the machine┤
guest ─ virbr0 ┘            └ wg0 (in eth0) ── the server
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from subprocess import Popen
from typing import Self

from boot import noise
from connected import Connected
from failshut.config import policy_file, resolve
from failshut.config.declaration import Sources
from failshut.drill.judgement.judge import Case, judge
from failshut.drill.network.capture import Capture
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import until
from failshut.model.packet import Captured
from sandbox import Sweeper, another_machine
from seen import out_of_the_tunnel, watch_tunnel

BRIDGE, LINK_LOCAL = "virbr0", "fe80::50:2/64"
TUNNEL_ADDRESSES = {"10.99.0.2", "fd99::2"}
# What the noise sends by IP; the rest goes under it, to the link.
ROUTED = frozenset({"udp", "tcp", "icmp", "raw", "udp6"})
# Public addresses of the long connections.
FLOW4, FLOW6 = "198.51.100.31", "2001:db8::31"
_KINDS = {target: kind for kind, target in noise.TARGETS.items()}

_SINK = """
import socket, threading
listening = socket.create_server(("", {port}), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
print("listening", flush=True)
def drain(sock):
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
while True:
    threading.Thread(target=drain, args=(listening.accept()[0],), daemon=True).start()
"""
# What goes by `pumps`, whatever happens.
KEEP_SENDING = """\
print("connected", flush=True)
while True:
    for each in pumps:
        each.setblocking(False)
        try:
            each.send(b"more")
        except OSError:
            pass
    time.sleep(0.01)
"""
# Long connections and an exchange of datagrams that go on whatever happens.
_PUMP = f"""
import socket, time
pumps = [socket.create_connection((each, {noise.PORT}), 10) for each in ({FLOW4!r}, {FLOW6!r})]
for kind, each in ((socket.AF_INET, {FLOW4!r}), (socket.AF_INET6, {FLOW6!r})):
    pumps.append(socket.socket(kind, socket.SOCK_DGRAM))
    pumps[-1].connect((each, 7008))
{KEEP_SENDING}"""
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"


# A datagram, and the first packet of a connection.
_CALL = """
import socket, sys
site = (sys.argv[1], 22)
family = socket.AF_INET6 if ":" in site[0] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(b"call", site)
calling = socket.socket(family, socket.SOCK_STREAM)
calling.setblocking(False)
calling.connect_ex(site)
"""


@dataclass(frozen=True, slots=True)
class _Held(Namespace):
    """The network namespace of a process."""

    @property
    def path(self) -> str:
        """Where the kernel keeps it."""
        return f"/proc/{self.name}/ns/net"


class Host:
    """A host in network and mount namespaces of its own, with one device `eth0`."""

    def __init__(self, machine: Connected) -> None:
        self._process = machine.start(*another_machine())
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the namespace of a host could not be made")
        self._sweeper = Sweeper(self._process.pid)
        self._started: list[Popen[str]] = []
        self._machine = machine
        self.namespace = _Held(str(self._process.pid))

    def close(self) -> None:
        """End every process in it."""
        self._sweeper.sweep()
        for each in (*self._started, self._process):
            each.communicate()

    @property
    def pid(self) -> str:
        """The process that holds the namespaces."""
        return str(self._process.pid)

    def run(self, *argv: str) -> tuple[int, str]:
        """Run a program; return its exit code and what it said."""
        done = self._machine.run(*self._inside(argv))
        return done.returncode, done.stdout + done.stderr

    def must(self, *argv: str) -> str:
        """Run a program that must succeed; return what it said."""
        code, said = self.run(*argv)
        if code:
            raise RuntimeError(f"{argv}: {said}")
        return said

    def start(self, *argv: str) -> Popen[str]:
        """Start a program and leave it running."""
        self._started.append(self._machine.start(*self._inside(argv)))
        return self._started[-1]

    def connects(self, address: str, port: int = noise.PORT, seconds: float = 5) -> bool:
        """Whether a TCP connection comes about."""
        return self.run("python3", "-c", _CONNECT, address, str(port), str(seconds))[0] == 0

    def make_noise(self) -> None:
        """Send by every way there is, until the test ends."""
        self.start("python3", "-I", "-S", "-E", noise.__file__)
        self.hear_noise(1)

    def pump(self) -> None:
        """Open long connections by both families, and go on sending on them."""
        if self.start("python3", "-c", _PUMP).stdout.readline() != "connected\n":
            raise RuntimeError("the long connections were not opened")

    def hear_noise(self, times: int = 35) -> None:
        """Wait until every kind of noise was tried some times more."""
        before = self._tried()
        if not until(lambda: self._tried() >= before + times, within=60, step=0.05):
            raise RuntimeError("the noise has stopped")

    def _tried(self) -> int:
        counts = Path(f"/proc/{self.pid}/root{noise.COUNTS}")
        return min(int(line.split()[1]) for line in counts.read_text().splitlines()) if counts.exists() else 0

    def _inside(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        return ("nsenter", f"--target={self.pid}", "--net", "--mount", *argv)


class Gateway(Connected):
    """The machine forwards; the server answers for public addresses by every cable, and nothing answers in its stead."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._world()
        self.client, self.stranger, self.guest = (Host(self) for _ in range(3))
        self.connect("eth1", self.client, 1)
        self.connect("eth2", self.stranger, 2)
        self.must("ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0")
        self.connect("vnet0", self.guest, 3, bridge=BRIDGE)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.client, self.stranger, self.guest):
            each.close()
        super().__exit__()

    @property
    def hosts(self) -> dict[str, Host]:
        """Everybody who is forwarded, by name."""
        return {"client": self.client, "stranger": self.stranger, "guest": self.guest}

    def calls(self, address: str) -> None:
        """Have the server call an address behind the machine, by the tunnel."""
        self.server("python3", "-c", _CALL, address)

    def adopt(self, forward: str) -> None:
        """Bring the tunnel up under a policy with this [forward]."""
        self.adopt_tunnel(f'[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n\n[forward]\n{forward}')
        # The server may send to whoever is behind the machine, and takes what is not masqueraded, so that a control shows it.
        key = self.must("wg", "show", "wg0", "public-key").strip()
        networks = ",".join(f"10.{n}.0.0/24,fd0{n}::/64" for n in (1, 2, 3))
        self.server("wg", "set", "served", "peer", key, "allowed-ips", f"10.99.0.2/32,fd99::2/128,{networks}")
        assert until(self.carries, within=20)

    def arm(self) -> None:
        """Arm, which must succeed."""
        done = self.failshut("arm")
        assert done.returncode == 0, done.stderr

    @contextmanager
    def watched(self) -> Iterator[Seen]:
        """Capture what leaves the machine, on the cable and out of the tunnel at the server, and what reaches the client."""
        server = _Held(str(self._server.pid))
        capture = Capture(server, (("cable", "eth0"),))
        capture.add(self.client.namespace, "eth0", "client")
        capture.add(self.stranger.namespace, "eth0", "stranger")
        watch_tunnel(self.server, "served")
        capture.start()
        seen = Seen()
        try:
            yield seen
        finally:
            seen.frames, seen.pairs = capture.stop(), out_of_the_tunnel(self.server)
            # What a control says of the time of its flood is enough, however much of it there was.
            seen.lost = capture.dropped
            seen.case = self._case()

    def _case(self) -> Case:
        """Return what the judge must know of the cable; what leaves by the tunnel is not judged."""
        files = {"/etc/wireguard/wg0.conf": self.read("/etc/wireguard/wg0.conf").encode()}
        declaration = policy_file.parse(self.read("/etc/failshut/failshut.toml"), "failshut.toml")
        policy = resolve.resolve(declaration, Sources(files=files)).policy
        own = frozenset(ip_address(each) for each in ("192.168.50.2", "fd50::2", LINK_LOCAL.partition("/")[0]))
        return Case(policy, {"eth0": own}, links={"eth0": frozenset(ip_network(each) for each in ("192.168.50.0/24", "fd50::/64"))})

    def _world(self) -> None:
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.must("sh", "-c", f"echo 1 > /proc/sys/net/{key}")
        self.must("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects")
        # By it the kernel asks for the neighbours of those it forwards for; the sandbox's device has none.
        self.must("ip", "addr", "add", LINK_LOCAL, "dev", "eth0", "nodad")
        for line in (
            *("route add local 198.51.100.0/24 dev lo", "-6 route add local 2001:db8::/64 dev lo"),
            *(f"route add 10.{n}.0.0/24 dev served" for n in (1, 2, 3)),
            *(f"-6 route add fd0{n}::/64 dev served" for n in (1, 2, 3)),
            *("-6 addr add fd99::1/128 dev served", "-6 route add fd99::2 dev served"),
        ):
            self.server("ip", *line.split())
        sink = self.at_server("python3", "-c", _SINK.format(port=noise.PORT))
        if sink.stdout.readline() != "listening\n":
            raise RuntimeError("nobody listens at the server")

    def connect(self, device: str, host: Host, number: int, *, bridge: str = "") -> None:
        """Connect a host to a device of the machine, which is its gateway."""
        self.must("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", host.pid)
        self.must("ip", "link", "set", device, "up")
        if bridge:
            self.must("ip", "link", "set", device, "master", bridge)
            self.must("ip", "link", "set", bridge, "up")
        for address in (f"10.{number}.0.1/24", f"fd0{number}::1/64"):
            self.must("ip", "addr", "add", address, "dev", bridge or device, *(("nodad",) if ":" in address else ()))
        host.must("ip", "link", "set", "eth0", "up")
        host.must("ip", "addr", "add", f"10.{number}.0.2/24", "dev", "eth0")
        host.must("ip", "addr", "add", f"fd0{number}::2/64", "dev", "eth0", "nodad")
        host.must("ip", "route", "add", "default", "via", f"10.{number}.0.1")
        host.must("ip", "-6", "route", "add", "default", "via", f"fd0{number}::1")


class Seen:
    """What a capture saw, once it has ended."""

    def __init__(self) -> None:
        self.frames: tuple[Captured, ...] = ()
        self.pairs: list[tuple[str, str]] = []
        self.lost = 0
        self.case: Case | None = None

    @property
    def leaks(self) -> list[str]:
        """What left by the cable and the policy does not allow."""
        assert self.lost == 0, "the capture lost frames: the run is void"
        return [str(each) for each in self._leaks()]

    @property
    def leaked(self) -> dict[str, set[str]]:
        """The kinds of noise that left by the cable in the clear, each with the addresses it came from."""
        return _by_kind((str(each.packet.source), str(each.packet.target)) for each in self._leaks())

    @property
    def tunnelled(self) -> dict[str, set[str]]:
        """The kinds of noise that came out of the tunnel, each with the addresses it came from."""
        return _by_kind(self.pairs)

    def at(self, device: str) -> list[Captured]:
        """Return what was seen at one place."""
        return [each for each in self.frames if each.device == device]

    def _leaks(self) -> list[Captured]:
        return list(judge(self.at("eth0"), self.case).leaks)


def _by_kind(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source, target in pairs:
        kind = "flow" if target in (FLOW4, FLOW6) else _KINDS.get(target)
        if kind:
            found.setdefault(kind, set()).add(source)
    return found

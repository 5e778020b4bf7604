"""The other end of the machine's only cable: a router with DHCP, the WireGuard server, and an "Internet" that answers.

    ┌── machine ──┐         ┌───────────── router ──────────────┐
    │ wg0         │  cable  │                                   │
    │ host0 ───────────────── cable ◄── captured                │
    └─────────────┘         │ lan (bridge) 192.168.77.1 fd77::1 │
                            │ lo           203.0.113.10, and    │
                            │              198.51.100.0/24 …    │
                            │ server       10.99.0.1 fd99::1    │
                            └───────────────────────────────────┘

A public address answers both through the tunnel and in the clear, so that connections exist that could leak.
"""

from __future__ import annotations

import selectors
import socket
import struct
import subprocess
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

from boot import noise
from boot.room import Room
from boot.wire import DEVICE, Wire
from failshut.config import policy_file, resolve
from failshut.config.declaration import Sources
from failshut.drill.judgement.judge import Case
from failshut.drill.network.netns import Namespace, SetUpError, must
from failshut.drill.network.wait import until
from failshut.drill.network.wireguard import Keys
from failshut.host.run import Result
from failshut.model.policy import Policy

MACHINE4, MACHINE6, MAC = "192.168.77.2", "fd77::211:22ff:fe33:4455", "00:11:22:33:44:55"
LINK_LOCAL = "fe80::211:22ff:fe33:4455"
ROUTER4, ROUTER6 = "192.168.77.1", "fd77::1"
PREFIXES = ("192.168.77.0/24", "fd77::/64")
ENDPOINT, PORT = "203.0.113.10", 51820
SERVER_DEVICE = "server"

POLICY = """\
[tunnel.wg0]
config = "/etc/wireguard/wg0.conf"

[allow]
dhcp = true
ndp = true
"""

_CONFIG = """\
[Interface]
PrivateKey = {private}
Address = 10.99.0.2/32, fd99::2/128

[Peer]
PublicKey = {public}
Endpoint = {endpoint}:{port}
AllowedIPs = 0.0.0.0/0, ::/0
"""

_LINKS = f"""
link set lo up
address add {ENDPOINT}/32 dev lo
route add local 198.51.100.0/24 dev lo
route add local 2001:db8::/64 dev lo
link add lan type bridge mcast_snooping 0
address add {ROUTER4}/24 dev lan
address add {ROUTER6}/64 dev lan
link set lan up
"""

_TUNNEL = f"""
address add 10.99.0.1/24 dev {SERVER_DEVICE}
address add fd99::1/64 dev {SERVER_DEVICE}
link set {SERVER_DEVICE} up
"""


class Router:
    """Up for the block. `wire` is what it saw on the cable."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.namespace: Namespace = room.namespace("router")
        self.wire = Wire(self.namespace)
        self._client, self._server = self._fresh_keys(), self._fresh_keys()

    def __enter__(self) -> Self:
        # No duplicate detection: the addresses are usable at once.
        self.namespace.sysctl({"ipv6/conf/default/accept_dad": 0, "ipv6/conf/default/accept_ra": 0, "ipv6/conf/all/forwarding": 1})
        self.namespace.sysctl({"ipv4/tcp_synack_retries": 0})
        self.namespace.batch(_LINKS)
        self._start_server()
        self._sink = Sink(self.namespace)
        self.wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.stop()

    @property
    def config(self) -> str:
        """The machine's side of the tunnel, for wg-quick."""
        return self.config_as(_CONFIG)

    def config_as(self, form: str) -> str:
        """Return the machine's side of the tunnel as another program's config, by its names: private, public, endpoint, port."""
        return form.format(private=self._client.private, public=self._server.public, endpoint=ENDPOINT, port=PORT)

    @property
    def policy(self) -> Policy:
        """The policy of the tests, as failshut reads it."""
        declaration = policy_file.parse(POLICY, "failshut.toml")
        files = {"/etc/wireguard/wg0.conf": self.config.encode()}
        return resolve.resolve(declaration, Sources(files=files)).policy

    @property
    def case(self) -> Case:
        """What the judge must know of the machine."""
        own = frozenset(ip_address(each) for each in (MACHINE4, MACHINE6, LINK_LOCAL))
        return Case(self.policy, {DEVICE: own}, links={DEVICE: frozenset(ip_network(each) for each in PREFIXES)})

    def serve_addresses(self) -> None:
        """Give the machine its addresses by DHCP and by router advertisements."""
        self.room.start(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface=lan"),
            *("--bind-dynamic", f"--dhcp-range={MACHINE4},{MACHINE4},1h", "--dhcp-range=fd77::,ra-only", "--enable-ra"),
            *("--dhcp-authoritative", "--dhcp-leasefile=/run/leases", "--pid-file=/run/dnsmasq.pid"),
            net=self.namespace,
        )

    def plug(self, machine: Namespace) -> None:
        """Run a new cable to the machine. What an earlier one carried is in the capture already.

        Nobody here speaks to the machine first: a kernel whose address is there before its first process answers what is meant
        for an earlier boot, by an ICMP error or a reset, when nothing in the machine could have locked it yet.
        """
        self.namespace.try_batch("link delete cable")
        self._sink.hang_up()
        self.forget_client()
        self.room.do(
            *("ip", "link", "add", "cable", "netns", self.namespace.name, "type", "veth"),
            *("peer", "name", DEVICE, "netns", machine.name, "address", MAC),
        )
        self.wire.plug("cable")
        self.namespace.batch("link set cable master lan up")

    def carried(self) -> int:
        """Return how many packets the server took out of the tunnel."""
        return received(self.namespace, SERVER_DEVICE)

    def carries(self, *, within: float = 30) -> bool:
        """Wait until more comes through the tunnel than did; return whether it did."""
        before = self.carried()
        return until(lambda: self.carried() > before + 5, within=within, step=0.05)

    def _fresh_keys(self) -> Keys:
        private = self.room.do("wg", "genkey").strip()
        return Keys(private, self.room.do("wg", "pubkey", stdin=private).strip())

    def _start_server(self) -> None:
        log = self.room.path / "run/wireguard-go"
        process = None
        if not self.namespace.run("ip", "link", "add", SERVER_DEVICE, "type", "wireguard").ok:
            start = ("wireguard-go", "--foreground", SERVER_DEVICE)
            process = self.room.start(*start, net=self.namespace, env={"LOG_LEVEL": "error"}, log=log)
        setting = ("set", SERVER_DEVICE, "listen-port", str(PORT), "private-key", "/dev/stdin")
        # wg removes a socket that nobody listens on yet, and wireguard-go then ends.
        until(lambda: process is None or _is_over(process) or self._listens(), within=30)
        if not until(lambda: self._wg(*setting, stdin=self._server.private).ok or _is_over(process), within=30):
            raise SetUpError(f"the WireGuard server does not answer: {self._wg(*setting, stdin=self._server.private).complaint}")
        if _is_over(process):
            raise SetUpError(f"wireguard-go ended: {log.read_text(errors='replace')}")
        self.namespace.batch(_TUNNEL)

    def forget_client(self) -> None:
        """Know the client by its key only, as if it had never been heard of."""
        self.ignore_client()
        must(self._wg("set", SERVER_DEVICE, "peer", self._client.public, "allowed-ips", "10.99.0.2/32,fd99::2/128"))

    def ignore_client(self) -> None:
        """Answer it no more, until it is forgotten: WireGuard is silent to a key that it does not know."""
        must(self._wg("set", SERVER_DEVICE, "peer", self._client.public, "remove"))

    def _listens(self) -> bool:
        """Whether a program listens on the server's control socket (proc(5): the flag __SO_ACCEPTCON)."""
        lines = self.namespace.do("cat", "/proc/net/unix").splitlines()
        return any(each.endswith(f"/{SERVER_DEVICE}.sock") and each.split()[3] == "00010000" for each in lines)

    def _wg(self, *argv: str, stdin: str | None = None) -> Result:
        """Run wg in the room: wireguard-go is spoken to by a socket in the room's /run."""
        return self.room.run("ip", "netns", "exec", self.namespace.name, "wg", *argv, stdin=stdin)


def received(namespace: Namespace, device: str) -> int:
    """Return how many packets came in by a device (proc_pid_net(5), dev)."""
    with namespace.inside():
        table = Path("/proc/thread-self/net/dev").read_text()
    _, _, numbers = next(line.partition(":") for line in table.splitlines() if line.split(":")[0].strip() == device)
    return int(numbers.split()[1])


def _is_over(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is not None


class Sink:
    """Takes every TCP connection to the noise's port, and reads what comes."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.inside():
            self._listener = socket.create_server(("", noise.PORT), backlog=1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ending, self._hanging_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """Forget every connection; nothing is sent for one of them any more."""
        self._hanging_up.set()
        if not until(lambda: not self._hanging_up.is_set(), within=10):
            raise SetUpError("the sink does not hang up")

    def stop(self) -> None:
        """End, and close every connection."""
        self._ending.set()
        self._thread.join()
        self._close_all()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.fileobj)
            if self._hanging_up.is_set():
                self._close_all()
                self._hanging_up.clear()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        # Closed by a single reset, which is not repeated.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._selector.register(connection, selectors.EVENT_READ)

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._listener:
                self._selector.unregister(key.fileobj)
                key.fileobj.close()

    def _read(self, connection: socket.socket) -> None:
        try:
            if connection.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(connection)
        connection.close()

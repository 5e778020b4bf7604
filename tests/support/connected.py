"""A machine to arm with a tunnel that works: the sandbox, a cable to a server, and WireGuard at both ends."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Self

import watcher
from sandbox import POLICY, Sandbox, Sweeper, another_machine

SERVER = "203.0.113.10"
# Behind the tunnel: the server's inner address, where it takes uploads.
INNER = "10.99.0.1"
SINK_PORT = 7000

_SINK = """
import socket, threading
listening = socket.create_server(("", {port}))
print("listening", flush=True)
def drain(sock):
    while sock.recv(65536):
        pass
while True:
    threading.Thread(target=drain, args=(listening.accept()[0],), daemon=True).start()
"""


@dataclass(frozen=True, slots=True)
class Frame:
    """A packet that the server saw on one of its devices: on `cable` in the clear, on `served` out of the tunnel."""

    device: str
    protocol: str
    source: str
    target: str
    port: int
    hops: int
    payload: str


class Connected(Sandbox):
    """A sandbox whose cable ends at a router that is also the tunnel's server."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._server = self.start(*another_machine())
        if self._server.stdout.readline() != "ready\n":
            raise RuntimeError("the server's namespace could not be made")
        self._server_sweeper = Sweeper(self._server.pid)
        self._connect()
        self._start_server()
        self._sink = self.at_server("python3", "-c", _SINK.format(port=SINK_PORT))
        if self._sink.stdout.readline() != "listening\n":
            raise RuntimeError("the server takes no uploads")
        return self

    def __exit__(self, *_: object) -> None:
        self._server_sweeper.sweep()
        for process in (self._sink, self._server):
            process.communicate()
        super().__exit__()

    def server(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program at the server, which must succeed; return its output."""
        done = subprocess.run([*self._there(), *argv], input=stdin, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{argv}: {done.stderr}")
        return done.stdout

    def adopt_tunnel(self, policy: str = POLICY, *, more: str = "", server: str = SERVER) -> None:
        """Put a config that the server knows and a policy in their places; bring the tunnel up. `more` goes under [Interface]."""
        self.write("/etc/failshut/failshut.toml", policy)
        text = (
            f"[Interface]\nPrivateKey = {self._key}\nAddress = 10.99.0.2/32, fd99::2/128\nFwMark = 0xca6c\n{more}"
            f"[Peer]\nPublicKey = {self._server_key}\nEndpoint = {server}:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        )
        self.write("/etc/wireguard/wg0.conf", text)
        self.must("wg-quick", "up", "wg0")

    def carries(self) -> bool:
        """Whether the server takes a connection through the tunnel, within ten seconds."""
        script = f"import socket; socket.create_connection(({INNER!r}, {SINK_PORT}), 10)"
        return self.run("python3", "-c", script).returncode == 0

    def outside(self) -> str:
        """Return what a restored tunnel must have: addresses, rules, routes, other tables than ours, without numbers that count."""
        script = (
            "ip -br addr show wg0 | sed 's/fe80:[^ ]*//'; "
            # wg-quick takes our rule for its table away with its own, and puts its own after ours: the same ways, other numbers.
            "for family in -4 -6; do ip $family rule | sed 's/^[0-9]*:\\t*//; s/ proto 245//' | sort -u; done; "
            "ip route show table 51820; ip -6 route show table 51820; "
            "nft -s list tables | grep -v failshut | sort; wg show wg0 fwmark; wg show wg0 allowed-ips; cat /etc/wireguard/wg0.conf"
        )
        return self.run("sh", "-c", script).stdout

    def has(self, device: str) -> bool:
        """Whether the client has a device now."""
        return any(each["ifname"] == device for each in json.loads(self.must("ip", "-j", "link")))

    def watch(self, *devices: str) -> None:
        """Begin to note what comes to the server, in the clear and out of the tunnel."""
        self._watcher = subprocess.Popen(
            [*self._there(), "python3", watcher.__file__, *(devices or ("cable", "served"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._watcher.stdout.readline() != "ready\n":
            raise RuntimeError("nothing would be seen")

    def seen(self) -> list[Frame]:
        """End the watch, and return every IP packet but the tunnel's own transport and what keeps the link alive."""
        out, _ = self._watcher.communicate("stop\n", timeout=60)
        report = json.loads(out)
        if report["dropped"]:
            raise RuntimeError(f"the watcher lost {report['dropped']} frames: the run is void")
        return [Frame(**each) for each in report["frames"]]

    def _there(self) -> list[str]:
        # The process that `start` left is nsenter's own: it has become unshare's shell.
        return ["nsenter", f"--target={self._server.pid}", "--net", "--mount"]

    def at_server(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program at the server and leave it running."""
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._there(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _connect(self) -> None:
        self.must("ip", "link", "set", "cable", "netns", str(self._server.pid))
        for line in ("addr add 192.168.50.1/24 dev cable", f"addr add {SERVER}/32 dev cable", "link set cable up"):
            self.server("ip", *line.split())
        self.server("ip", "addr", "add", "fd50::1/64", "dev", "cable", "nodad")
        self.must("ip", "addr", "add", "fd50::2/64", "dev", "eth0", "nodad")
        self.must("ip", "route", "add", "default", "via", "192.168.50.1")
        self.must("ip", "-6", "route", "add", "default", "via", "fd50::1")

    def _start_server(self) -> None:
        self._key, key = (self.must("wg", "genkey").strip() for _ in range(2))
        public = self.must("wg", "pubkey", stdin=self._key).strip()
        self._server_key = self.must("wg", "pubkey", stdin=key).strip()
        self.server("sh", "-c", "ip link add served type wireguard 2>/dev/null || wireguard-go served")
        self.server(
            *("wg", "set", "served", "listen-port", "51820", "private-key", "/dev/stdin"),
            *("peer", public, "allowed-ips", "10.99.0.2/32,fd99::2/128"),
            stdin=key,
        )
        for line in (f"addr add {INNER}/32 dev served", "link set served up", "route add 10.99.0.2 dev served"):
            self.server("ip", *line.split())

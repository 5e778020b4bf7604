"""TCP through a real tunnel of wireguard-go: throughput, the time of an answer, and of a connection; with the lock and without."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.figures import Figure, Unit, figure, ratios
from benchmarks.ground import must
from benchmarks.switches import FAILSHUT, GUIDE, NO_RULES, lock

TITLE = "Through a tunnel of wireguard-go"
ROUNDS = 15

_SERVER = """
import socket, threading
def serve(peer):
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer:
        while data := peer.recv(1 << 18):
            if len(data) == 1:
                peer.send(data)
listener = socket.create_server(("10.99.0.1", 7777), backlog=512)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
# Prints the ms of CPU-bound work: seconds for so many bytes, for an answer, for a connection.
_CLIENT = """
import socket, time
def opened():
    peer = socket.create_connection(("10.99.0.1", 7777), timeout=10)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer
with opened() as peer:
    payload, begin = bytes(1 << 16), time.perf_counter()
    for _ in range(400):
        peer.sendall(payload)
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    print((400 << 16) * 8 / 1e6 / (time.perf_counter() - begin))
with opened() as peer:
    begin = time.perf_counter()
    for _ in range(300):
        peer.send(b"?")
        peer.recv(1)
    print((time.perf_counter() - begin) / 300 * 1e3)
begin = time.perf_counter()
for _ in range(100):
    opened().close()
print(100 / (time.perf_counter() - begin))
"""


class _Host:
    """A network namespace of its own, held by a process."""

    def __init__(self) -> None:
        script = "mount -t tmpfs none /run && mkdir -p /var/run/wireguard && ip link set lo up && echo ready && exec sleep infinity"
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout is not None  # noqa: S101 - it was asked for
        self.holder.stdout.readline()

    def inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", *argv]

    def must(self, *argv: str, stdin: str | None = None) -> str:
        return must(*self.inside(*argv), stdin=stdin)


def measure() -> Iterator[Figure]:
    """Yield each measure and its ratio; where more is better, the ratio is of the times."""
    client, server = _Host(), _Host()
    running = []
    try:
        running += _connected(client, server)
        measured: dict[tuple[str, str], list[float]] = {}
        loads = {NO_RULES: "", "the guide, iptables-nft": GUIDE, FAILSHUT: lock()}
        for turn in range(ROUNDS):
            for name in list(loads)[:: -1 if turn % 2 else 1]:
                client.must("nft", "flush", "ruleset")
                if loads[name]:
                    tool = ("iptables-nft-restore",) if loads[name] is GUIDE else ("nft", "-f", "-")
                    client.must(*tool, stdin=loads[name])
                values = map(float, client.must(sys.executable, "-c", _CLIENT).split())
                for what, value in zip(("throughput", "an answer", "connections"), values, strict=True):
                    measured.setdefault((name, what), []).append(value)
        units = {"throughput": Unit.MEGABITS, "an answer": Unit.MILLISECONDS, "connections": Unit.PER_SECOND}
        for (name, what), values in measured.items():
            bare = measured[NO_RULES, what]
            yield figure(TITLE, name, what, values, units[what])
            share = ratios(values, bare) if what == "an answer" else ratios(bare, values)
            yield figure(TITLE, name, f"{what}, time", share, Unit.RATIO)
    finally:
        for each in (*running, client.holder, server.holder):
            each.kill()
            each.wait()


def _connected(client: _Host, server: _Host) -> list[subprocess.Popen[bytes]]:
    must(
        "ip",
        "link",
        "add",
        "eth0",
        "netns",
        str(client.holder.pid),
        "type",
        "veth",
        "peer",
        "name",
        "wan",
        "netns",
        str(server.holder.pid),
    )
    running = []
    keys = {host: must("wg", "genkey").strip() for host in (client, server)}
    for host, device, outer, own, listen in (
        (client, "wg0", ("192.168.50.2/24", "eth0"), "10.99.0.2/24", "51821"),
        (server, "wg1", ("192.168.50.1/24", "wan"), "10.99.0.1/24", "51820"),
    ):
        host.must("ip", "address", "add", outer[0], "dev", outer[1])
        host.must("ip", "link", "set", outer[1], "up")
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen(host.inside("wireguard-go", "-f", device), stdout=quiet, stderr=quiet))
        _await(lambda host=host, device=device: host.must("wg", "show", device, "peers"))  # type: ignore[misc]
        other = server if host is client else client
        peer = must("wg", "pubkey", stdin=keys[other]).strip()
        place = ("endpoint", "203.0.113.10:51820") if host is client else ()
        mark = ("fwmark", "0xca6c") if host is client else ()
        allowed = ("allowed-ips", "10.99.0.0/24")
        host.must(
            "wg",
            "set",
            device,
            "private-key",
            "/dev/stdin",
            "listen-port",
            listen,
            *mark,
            "peer",
            peer,
            *place,
            *allowed,
            stdin=keys[host],
        )
        host.must("ip", "address", "add", own, "dev", device)
        host.must("ip", "link", "set", device, "up")
    server.must("ip", "address", "add", "203.0.113.10/32", "dev", "wan")
    client.must("ip", "route", "add", "203.0.113.10/32", "via", "192.168.50.1")
    running.append(subprocess.Popen(server.inside(sys.executable, "-c", _SERVER)))
    _await(lambda: client.must(sys.executable, "-c", "import socket; socket.create_connection(('10.99.0.1', 7777), timeout=5)"))
    return running


def _await(attempt: object) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            attempt()  # type: ignore[operator]
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return

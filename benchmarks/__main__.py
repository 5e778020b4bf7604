"""`make bench`: load time, start-up time, cost per packet. Medians; the machine's drift is why ratios are printed too."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "tests/golden"
EXAMPLE = Path(__file__).parent.parent / "src/failshut/examples/example.toml"
PACKETS = 40_000
PREFIXES = 10_000
ROUNDS = 9
CLONE_NEWNET = 0x40000000
SO_MARK = 36

GUIDE = """*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -i lo -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 22 -m state --state NEW -j ACCEPT
-A OUTPUT -p udp -d 203.0.113.10 --dport 51820 -j ACCEPT
-A OUTPUT -d 192.168.1.0/24 -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
-A INPUT -i wg0 -j ACCEPT
COMMIT
"""


def main() -> None:
    """Run every benchmark and print it."""
    if os.geteuid() != 0:
        sys.exit("benchmarks need root: they make network namespaces")
    print("start-up, wall clock, median of 9")
    for name, argv in (
        ("python -c 'import click'", [sys.executable, "-c", "import click"]),
        ("failshut status", [sys.executable, "-m", "failshut", "status"]),
        ("failshut render nft", [sys.executable, "-m", "failshut", "--policy", str(EXAMPLE), "render", "nft"]),
    ):
        print(f"  {name:<28} {_wall(argv) * 1e3:7.0f} ms")
    from benchmarks import boot  # noqa: PLC0415 - it brings the boot tests' machine

    print(f"boot, in a container of Debian 12, median of {boot.BOOTS} alternating boots")
    for name, milliseconds in boot.measure():
        print(f"  {name:<36} {milliseconds:7.1f} ms")
    _enter_namespace()
    lock = (GOLDEN / "guide/expect.nft").read_text()
    print("one transaction, the guide's policy, median of 9")
    print(f"  {'nft -f, first':<28} {_load(lock, fresh=True) * 1e3:7.1f} ms")
    print(f"  {'nft -f, armed already':<28} {_load(lock, fresh=False) * 1e3:7.1f} ms")
    print(f"  {f'nft -f, {PREFIXES} prefixes':<28} {_load(_with_prefixes(lock), fresh=True) * 1e3:7.1f} ms")
    _costs(lock)
    from benchmarks import outside  # noqa: PLC0415 - it compiles policies of its own

    for line in outside.report(lambda address, port: _cpu_per_packet(address, port, mark=0)):
        print(line)


def _with_prefixes(lock: str) -> str:
    """Return the lock with as many LAN prefixes, none of which touches the next."""
    prefixes = ", ".join(f"10.{number >> 8 & 255}.{number & 255}.0/25" for number in range(PREFIXES))
    return lock.replace("ip daddr 192.168.1.0/24 goto allowed", f"ip daddr {{ {prefixes} }} goto allowed")


def _wall(argv: list[str]) -> float:
    def once() -> float:
        begin = time.perf_counter()
        subprocess.run(argv, capture_output=True, check=False)
        return time.perf_counter() - begin

    return statistics.median(once() for _ in range(ROUNDS))


def _enter_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    for line in (
        "link set lo up",
        "link add eth0 type veth peer name cable",
        "link add wg0 type veth peer name other",
        "address add 192.168.50.2/24 dev eth0",
        "address add 10.99.0.2/24 dev wg0",
        "link set eth0 up",
        "link set cable up",
        "link set wg0 up",
        "link set other up",
        "route add 203.0.113.0/24 via 192.168.50.1",
        "route add 198.51.100.0/24 via 192.168.50.1",
        "neigh add 192.168.50.1 lladdr 02:00:00:00:00:01 dev eth0",
        "neigh add 10.99.0.1 lladdr 02:00:00:00:00:02 dev wg0",
    ):
        _run("ip", *line.split())


def _run(*argv: str, stdin: str | None = None) -> None:
    subprocess.run(argv, input=stdin, text=True, capture_output=True, check=True)


def _load(text: str, *, fresh: bool) -> float:
    times = []
    _run("nft", "-f", "-", stdin=text)
    for _ in range(ROUNDS):
        if fresh:
            _run("nft", "flush", "ruleset")
        begin = time.perf_counter()
        _run("nft", "-f", "-", stdin=text)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _costs(lock: str) -> None:
    setups: dict[str, Callable[[], None]] = {
        "no rules": lambda: None,
        "the guide, iptables-nft": lambda: _run("iptables-nft-restore", stdin=GUIDE),
        "the guide, iptables-legacy": lambda: _run("iptables-legacy-restore", stdin=GUIDE),
        "failshut": lambda: _run("nft", "-f", "-", stdin=lock),
    }
    flows = {
        "into the tunnel": lambda: _cpu_per_packet("10.99.0.1", 9, mark=0),
        "transport on eth0": lambda: _cpu_per_packet("203.0.113.10", 51820, mark=0xCA6C),
        "blocked": lambda: _cpu_per_packet("198.51.100.9", 9, mark=0),
    }
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        # Alternating, so that the machine's drift falls on all alike.
        for name, set_up in setups.items():
            _clear()
            set_up()
            for flow, measure in flows.items():
                measured.setdefault((name, flow), []).append(measure())
    _clear()
    print(f"system CPU per UDP packet, ns and ratio to no rules, {PACKETS} packets, median of {ROUNDS}")
    print("  " + " " * 28 + "".join(f"{flow:>22}" for flow in flows))
    for name in setups:
        cells = []
        for flow in flows:
            cost, bare = statistics.median(measured[name, flow]), statistics.median(measured["no rules", flow])
            cells.append(f"{cost:>14.0f} ({cost / bare:4.2f})")
        print(f"  {name:<28}" + "".join(f"{cell:>22}" for cell in cells))


def _clear() -> None:
    _run("nft", "flush", "ruleset")
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        _run("iptables-legacy", "-P", chain, "ACCEPT")
    _run("iptables-legacy", "-F")


def _cpu_per_packet(address: str, port: int, *, mark: int) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        if mark:
            sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        sender.connect((address, port))
        payload = bytes(200)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        for _ in range(PACKETS):
            try:
                sender.send(payload)
            except OSError:
                continue
        after = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    return (after - before) / PACKETS * 1e9


if __name__ == "__main__":
    main()

"""What flushes the packet filter, many times under a flood, on a booted machine: `python -m benchmarks.flushes [COUNT] [NAME…]`.

Each time waits until the lock is back: each flush takes one away. Each is done with the monitor up, and again with the monitor
killed amid it; last, with monitor and guard stopped, comes the control. What needs no systemd is done in a lab of namespaces; the
rest, and all of it with the word `booted`, on a machine that is booted, whose tunnel is down.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from boot import roots
from boot.living import arm
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router
from boot.wire import Report
from flooded import Flooded

COUNT, AT_ONCE = 1000, 10
# Of so many flushes one is among those with a killed monitor; in the lab one is killed for so many of those.
SHARE_KILLED, KILLED_AFTER = 5, 20
# Datagrams and frames by the thousand a second, beside the noise that every boot test makes.
FLOOD = """
import socket, time
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
below = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
below.bind(("host0", 0))
frame = b"\\xff" * 6 + b"\\x02" * 6 + b"\\x88\\xb5" + b"cargo" * 20
sent = 0
while True:
    for _ in range(10):
        for send in (lambda: plain.sendto(b"flood", ("198.51.100.11", 7007)), lambda: below.send(frame)):
            sent += 1
            try:
                send()
            except OSError:
                pass
    if sent % 1000 == 0:
        open("/run/flood", "w").write(str(sent))
    time.sleep(0.002)
"""
_BACK = "until nft list chain inet failshut postrouting 2>/dev/null | grep -q shut; do sleep 0.002; done"


@dataclass(frozen=True, slots=True)
class Flush:
    """One way: `once` is run in a shell; `before` makes the machine ready. `cost` is how many of the others one is as dear as."""

    name: str
    once: str
    before: str = ":"
    cost: int = 1
    tree: roots.Root | None = None


FLUSHES = (
    Flush("nft flush ruleset", "nft flush ruleset"),
    Flush("nft delete table", "nft delete table inet failshut; nft delete table netdev failshut; nft delete table arp failshut"),
    Flush("iptables -F", "iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -F; ip6tables -P OUTPUT ACCEPT"),
    Flush(
        "nftables restarted",
        "systemctl reset-failed nftables; systemctl restart nftables",
        "systemctl start nftables",
        1,
        roots.BOOKWORM,
    ),
    Flush(
        "ufw enable, reload",
        "ufw --force enable >/dev/null; ufw reload >/dev/null",
        "ufw default allow outgoing",
        20,
        roots.CROWDED,
    ),
    Flush(
        "firewalld restarted, reload",
        "systemctl restart firewalld; firewall-cmd --complete-reload",
        "systemctl start firewalld",
        40,
        roots.CROWDED,
    ),
    Flush(
        "dockerd restarted", "systemctl reset-failed docker; systemctl restart docker", "systemctl start docker", 40, roots.CROWDED
    ),
)


@contextmanager
def machine(tree: roots.Root = roots.BOOKWORM) -> Iterator[Machine]:
    """Yield an armed machine with its tunnel down, under the flood."""
    with Room() as room, Router(room) as router, Machine(room, router, roots.obtain(tree, print), Address.STATIC) as it:
        it.write("/usr/local/lib/flood.py", FLOOD)
        arm(it)
        assert_that(it.eventually("grep", "-q", '"lock": "armed"', "/run/failshut/status.json"), it.journal)
        assert_that(it.run("systemctl", "stop", "wg-quick@wg0").ok, it.journal)
        assert_that(it.run("systemd-run", "--unit=flood", "python3", "-IS", "/usr/local/lib/flood.py").ok, it.journal)
        yield it


def assert_that(holds: bool, why: object) -> None:
    """Stop here where a step did not work: what is measured then means nothing."""
    if not holds:
        raise SystemExit(why() if callable(why) else why)


def flush(it: Machine, way: Flush, times: int, phase: str, beside: str = "") -> None:
    """Flush so many times in a phase, some at once; `beside` is run amid them."""
    began = time.monotonic()
    assert_that(it.run("sh", "-c", way.before).ok, it.journal)
    with it.router.wire.phase(phase):
        for done in range(0, times, AT_ONCE):
            script = f"for _ in $(seq {min(AT_ONCE, times - done)}); do {way.once}; {_BACK}; done"
            amid = f"(sleep 0.0{done % 90 + 1}; {beside}) & " if beside else ""
            finished = it.run("sh", "-c", f"exec 2>/dev/null; {amid}{script}; wait", timeout=900)
            assert_that(finished.code == 0, lambda: f"{phase}: {finished.complaint}\n{it.journal()[-4000:]}")  # noqa: B023 - at once
        it.hear_noise(20)
    print(
        f"{phase}: {times} times in {time.monotonic() - began:.0f} s, {it.run('cat', '/run/flood').out} flooded so far", flush=True
    )


def with_the_monitor(ways: list[Flush], count: int) -> Report:
    """Flush with the monitor up, then with the monitor killed amid it."""
    with machine(ways[0].tree or roots.BOOKWORM) as it:
        for way in ways:
            times = max(count // way.cost, 1)
            flush(it, way, times, way.name)
            flush(it, way, max(times // SHARE_KILLED, 1), f"{way.name}, killed", "systemctl kill -s KILL failshut-monitor")
        restarts = it.run("systemctl", "show", "-P", "NRestarts", "failshut-monitor").out.strip()
        print(f"the monitor was started again {restarts} times")
        return it.router.wire.stop(it.router.case)


def without_the_monitor() -> Report:
    """Stop the monitor, then the guard too: the lock holds until somebody flushes it."""
    with machine() as it:
        assert_that(it.run("systemctl", "stop", "failshut-monitor").ok, it.journal)
        flush(it, FLUSHES[0], 50, "monitor stopped, flushed")
        assert_that(it.run("systemctl", "stop", "failshut-guard").ok, it.journal)
        with it.router.wire.phase("monitor and guard stopped"):
            it.hear_noise(500)
        with it.router.wire.phase("control: and flushed"):
            assert_that(it.run("nft", "flush", "ruleset").ok, it.journal)
            it.hear_noise()
        return it.router.wire.stop(it.router.case)


def main(count: int, names: list[str]) -> None:
    """Print how often each was done, and what leaked."""
    words = [each for each in names if each != "booted"]
    ways = [each for each in FLUSHES if not words or any(word in each.name for word in words)]
    if in_lab := [each for each in ways if each.tree is None and "booted" not in names]:
        lab(in_lab, count)
    for _, some in groupby((each for each in ways if each not in in_lab), key=lambda each: each.tree):
        print(with_the_monitor(list(some), count).table, flush=True)
    if "booted" in names:
        print(without_the_monitor().table, flush=True)


def lab(ways: list[Flush], count: int) -> None:
    """Do in a lab what can be done there."""
    with Flooded() as it:
        it.arm()
        it.guard()
        for way in ways:
            it.watch_lock()
            said(way.name, count, it.under_flood(lambda: it.flush(way.once, count)))  # noqa: B023 - at once
            drifts = it.state()["drifts"]
            it.leave_unwatched()
            again = max(count // SHARE_KILLED, 1)
            rounds = max(again // KILLED_AFTER, 1)
            said(f"{way.name}, killed {rounds} times", again, it.under_flood(lambda: killed(it, way, again, rounds)))  # noqa: B023 - at once
            print(f"  the monitor counted {drifts} drifts")
        it.unguard()
        said("monitor and guard stopped", 0, it.under_flood(lambda: time.sleep(2)))
        control = it.under_flood(lambda: it.flush(FLUSHES[0].once, 1, waits=False))
        said("and flushed: the control", 1, control)
        if not control[1]:
            sys.exit("void: without monitor and guard nothing was seen to leave after a flush")


def killed(it: Flooded, way: Flush, count: int, rounds: int) -> None:
    """Flush in rounds, each with a monitor that is killed amid it."""
    for _ in range(rounds):
        it.watch_lock()
        it.flush(way.once, count // rounds, amid=it.kill_monitor)


def said(name: str, times: int, found: tuple[int, Counter[str]]) -> None:
    """Print what one phase found."""
    tried, left = found
    print(f"{name}: {times} times, {tried} packets tried to leave, {sum(left.values())} left {dict(left) or ''}", flush=True)


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    main(numbers[0] if numbers else COUNT, [each for each in sys.argv[1:] if not each.isdigit()])

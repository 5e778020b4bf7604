"""What it takes to load a switch, to load it again over itself, and to arm; with the memory of the largest process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.figures import Figure, Unit, figure
from benchmarks.ground import Ground, must
from benchmarks.parts.growth import prefixes
from benchmarks.switches import NO_RULES, switches
from failshut.model.exits import Exit
from sandbox import CONFIG, FAILSHUT, POLICY, Sandbox

LOADING, ARMING = "To load", "`failshut arm`"
LOADS, ARMS = 7, 2
COUNTS = (0, 1_000, 100_000)
_AGED = ("touch", "-d", "1 hour ago", "/etc/failshut/failshut.toml", "/etc/wireguard/wg0.conf")


def measure() -> Iterator[Figure]:
    """Yield milliseconds of nft and iptables, seconds and MiB of `failshut arm`."""
    for name, load in switches().items():
        if name == NO_RULES:
            continue
        Ground(lambda: None)
        yield figure(LOADING, name, "first", [_first(load) for _ in range(LOADS)], Unit.MILLISECONDS)
        load()
        yield figure(LOADING, name, "again, over itself", [_timed(load) for _ in range(LOADS)], Unit.MILLISECONDS)
    for count in COUNTS:
        yield from _arming(count)


def _first(load: Callable[[], None]) -> float:
    must("nft", "flush", "ruleset")
    return _timed(load)


def _timed(load: Callable[[], None]) -> float:
    begin = time.perf_counter()
    load()
    return (time.perf_counter() - begin) * 1e3


def _arming(count: int) -> Iterator[Figure]:
    lines = [f'"{each}",\n' for each in prefixes(count)] if count else []
    row = f"{count:,} prefixes outside"
    with Sandbox() as sandbox:
        sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
        for column, changed, times in (("first", False, 1), ("again, changed", True, ARMS), ("again, unchanged", False, ARMS)):
            taken = []
            for _ in range(times):
                if changed or column == "first":
                    # Another each time, by one prefix: what is as it was would not be armed anew.
                    outside = f"# {column} {len(taken)}\n[outside]\nprefixes = [\n{''.join(lines)}]\n"
                    sandbox.write("/etc/failshut/failshut.toml", POLICY + outside)
                    sandbox.run(*_AGED)
                    lines = lines[:-1]
                taken.append(used([*sandbox._inside((*FAILSHUT, "arm"), None)]))  # noqa: SLF001 - its own run ends after a minute
            yield figure(ARMING, row, f"{column}, CPU", [seconds for seconds, _ in taken], Unit.SECONDS)
            yield figure(ARMING, row, f"{column}, memory", [mebibytes for _, mebibytes in taken], Unit.MEBIBYTES)


def used(argv: list[str]) -> tuple[float, float]:
    """Run a program; return the seconds of CPU of it and its children, and the MiB of the largest of them."""
    # As it is installed: compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # An audit that knows no policy calls what the policy allows a leak.
    if process.returncode not in (0, Exit.DISARMED, Exit.LEAK):
        sys.exit(f"{argv} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

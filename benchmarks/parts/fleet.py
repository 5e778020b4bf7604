"""A fleet's policies in one process: `failshut check` and `failshut plan --against` of 1,000 hosts, as its operator runs them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Unit, figure
from benchmarks.parts.load import used
from sandbox import FAILSHUT

TITLE = "A fleet"
HOSTS, ROUNDS = 1_000, 3
_POLICY = """\
[tunnel.wg0]
endpoints = ["203.0.113.{octet}:51820"]
addresses = ["10.{high}.{octet}.2"]

[allow]
dhcp = true
ndp = true

[allow.lan]
prefixes = ["192.168.{octet}.0/24"]

[[allow.inbound]]
name = "ssh"
protocol = "tcp"
port = {port}
from = ["10.0.0.0/8"]
"""


def measure() -> Iterator[Figure]:
    """Yield seconds by the clock, of CPU, and MiB."""
    with tempfile.TemporaryDirectory() as directory:
        was, shall = Path(directory, "was"), Path(directory, "shall")
        write(was, 22)
        write(shall, 2222)
        before, after = sorted(map(str, was.iterdir())), sorted(map(str, shall.iterdir()))
        against = ("--against", str(was))
        commands = {
            "check": ("check", *after),
            "plan, no lock changes": ("plan", *before, *against),
            "plan, every lock changes": ("plan", *after, *against),
        }
        for name, words in commands.items():
            taken = [_timed([*FAILSHUT, *words]) for _ in range(ROUNDS)]
            row = f"{name}, {HOSTS:,} policies"
            yield figure(TITLE, row, "by the clock", [clock for clock, _, _ in taken], Unit.SECONDS)
            yield figure(TITLE, row, "CPU", [cpu for _, cpu, _ in taken], Unit.SECONDS)
            yield figure(TITLE, row, "memory", [mebibytes for _, _, mebibytes in taken], Unit.MEBIBYTES)


def write(directory: Path, port: int) -> None:
    """Write a policy for each host; each has a server, an address and a LAN of its own."""
    directory.mkdir()
    for number in range(HOSTS):
        text = _POLICY.format(octet=number % 250 + 1, high=number // 250, port=port)
        (directory / f"h{number:04}.toml").write_text(text)


def _timed(argv: list[str]) -> tuple[float, float, float]:
    began = time.perf_counter()
    cpu, mebibytes = used(argv)
    return time.perf_counter() - began, cpu, mebibytes

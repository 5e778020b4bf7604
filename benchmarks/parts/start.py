"""How much CPU each verb takes before it has done anything, beside Python with click alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.figures import Figure, Unit, figure, ratios
from benchmarks.parts.load import used
from failshut.cli.main import VERBS
from sandbox import CONFIG, FAILSHUT, POLICY, Sandbox

TITLE = "Start-up"
ROUNDS = 3
_BARE = "python3 -c 'import click'"


def measure() -> Iterator[Figure]:
    """Yield milliseconds and the ratio of each verb's --help, and of `status` while armed."""
    with Sandbox() as sandbox:
        sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
        sandbox.write("/etc/failshut/failshut.toml", POLICY)
        sandbox.failshut("arm")
        commands: dict[str, tuple[str, ...]] = {_BARE: (sys.executable, "-c", "import click")}
        commands["failshut status, armed"] = (*FAILSHUT, "status")
        commands |= {f"failshut {verb} --help": (*FAILSHUT, verb, "--help") for verb in sorted(VERBS)}
        measured: dict[str, list[float]] = {}
        for argv in commands.values():
            used(sandbox._inside(argv, None))  # noqa: SLF001 - the first of each compiles
        for _ in range(ROUNDS):
            for name, argv in commands.items():
                measured.setdefault(name, []).append(used(sandbox._inside(argv, None))[0] * 1e3)  # noqa: SLF001 - to count its CPU
        for name, milliseconds in measured.items():
            yield figure(TITLE, name, "CPU", milliseconds, Unit.MILLISECONDS)
            yield figure(TITLE, name, "ratio", ratios(milliseconds, measured[_BARE]), Unit.RATIO)

"""How long an audit takes, and how much memory, by the number of rules: `python benchmarks/audit_growth.py [--plot FILE.svg]`.

The rulesets are iptables-save files that accept and drop by address, port, device and state, in chains of fifty, with every kind
of alternation; the last rule drops. Each audit runs in a process of its own, import included.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

COUNTS = (20, 60, 250, 1000, 2500, 5000)


def ruleset(count: int) -> str:
    """Return an iptables-save file of about that many rules."""
    dice = random.Random(count)  # noqa: S311 - the same rulesets every time
    chains, body = [], []
    for start in range(0, count, 50):
        name = f"c{start // 50}"
        chains.append(f":{name} - [0:0]")
        body.append(f"-A OUTPUT -o eth{start // 50 % 3} -j {name}")
        body += [f"-A {name} {_rule(dice)}" for _ in range(min(50, count - start))]
    head = ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", *chains]
    first = [
        "-A OUTPUT -o lo -j ACCEPT",
        "-A OUTPUT -o tun0 -j ACCEPT",
        "-A OUTPUT -d 203.0.113.7 -p udp -m udp --dport 1194 -j ACCEPT",
    ]
    return "\n".join([*head, *first, *body, "-A OUTPUT -j DROP", "COMMIT", ""])


def _rule(dice: random.Random) -> str:
    host = f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}"
    port = dice.randrange(1, 65536)
    protocol = dice.choice(("tcp", "udp"))
    verdict = dice.choice(("ACCEPT", "ACCEPT", "DROP", "RETURN"))
    return dice.choice(
        (
            f"-d {host}/32 -p {protocol} -m {protocol} --dport {port} -j {verdict}",
            f"-d {host}/24 -j {verdict}" if verdict != "RETURN" else f"-d {host}/32 -j RETURN",
            f"-s {host}/32 -d 192.168.1.0/24 -p {protocol} -m {protocol} --sport {port} -m conntrack --ctstate NEW -j {verdict}",
        )
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """One audit: its rules, the seconds of the wall clock and of one core, and the MiB that it held at most."""

    rules: int
    wall: float
    seconds: float
    mebibytes: float


def measure(count: int) -> Measured:
    """Audit a ruleset of so many rules in a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as rules:
        rules.write(ruleset(count))
        rules.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "failshut", "audit", "-", "--json"], stdin=rules, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 12):
        sys.exit(f"the audit of {count} rules ended with {os.waitstatus_to_exitcode(status)}")
    return Measured(count, time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def plot(measured: list[Measured], file: str) -> None:
    """Draw seconds and memory by the number of rules, with the limits that they are judged by."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - of the extra `plot`

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    rules = [each.rules for each in measured]
    for axes, values, limits, unit in (
        (left, [each.seconds for each in measured], {60: 1, 1000: 10, 5000: 60}, "seconds of one core"),
        (right, [each.mebibytes for each in measured], {5000: 1024}, "MiB at most"),
    ):
        axes.loglog(rules, values, marker="o", label="measured")
        axes.loglog(list(limits), list(limits.values()), linestyle="none", marker="v", color="tab:red", label="limit")
        axes.set_xlabel("rules")
        axes.set_ylabel(unit)
        axes.grid(which="both", alpha=0.3)
        axes.legend()
    plt.rcParams["svg.hashsalt"] = "failshut"
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Measure, print, and draw where that was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--plot", metavar="FILE.svg")
    arguments.add_argument("counts", nargs="*", type=int, default=COUNTS)
    asked = arguments.parse_args()
    measured = []
    for count in asked.counts:
        measured.append(measure(count))
        last = measured[-1]
        print(f"{count:6} rules  {last.wall:7.2f} s, {last.seconds:7.2f} s of one core  {last.mebibytes:5.0f} MiB", flush=True)
    if asked.plot:
        plot(measured, asked.plot)


if __name__ == "__main__":
    main()

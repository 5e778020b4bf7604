"""How long an audit takes, and how much memory, by the number of rules: `python benchmarks/audit_growth.py [COUNT ...]`.

The rulesets are iptables-save files that accept and drop by address, port, device and state, in chains of fifty, with every kind
of alternation; the last rule drops. Each audit runs in a process of its own, import included.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time

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


def measure(count: int) -> None:
    """Print one line: rules, seconds, megabytes, answers."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "failshut", "audit", "-", "--json"],
        input=ruleset(count),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"{count:6} rules  {seconds:7.2f} s  {peak:5} MiB at most so far  exit {done.returncode} {done.stderr[:100]}", flush=True)


if __name__ == "__main__":
    for each in [int(word) for word in sys.argv[1:]] or COUNTS:
        measure(each)

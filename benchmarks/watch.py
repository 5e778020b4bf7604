"""How many programs a watch names that live for 20 ms after their packet: `python -m benchmarks.watch [COUNT]`."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/watch"))

from test_watch import LOGGED, SENDER, STORM, armed

from sandbox import FAILSHUT, Sandbox

LIFE, AT_ONCE = "0.02", 4


def main(count: int) -> None:
    """Start programs, a few at a time, and print how many were named, not named, and named wrongly."""
    named: Counter[str] = Counter()
    with Sandbox() as sandbox:
        armed(sandbox, LOGGED)
        for begun in range(0, count, 500):
            number = min(500, count - begun)
            watching = sandbox.start(*FAILSHUT, "watch", "--json")
            watching.stdout.readline()
            storm = sandbox.start(sys.executable, "-c", STORM, SENDER, str(number), str(AT_ONCE), LIFE)
            pids = json.loads(storm.communicate()[0].splitlines()[-1])
            watching.send_signal(signal.SIGINT)
            rows = json.loads(watching.communicate()[0].splitlines()[-1])["rows"]
            for row in rows:
                if str(row["port"]) in pids:
                    right = "right" if row["pid"] == pids[str(row["port"])] else "wrong"
                    named[f"{row['protocol']} {'not named' if row['pid'] is None else right}"] += 1
    for what, times in sorted(named.items()):
        print(f"{what:<16} {times:6}")
    print(f"{'right':<16} {sum(times for what, times in named.items() if what.endswith('right')) / count:6.1%} of {count}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10_000)

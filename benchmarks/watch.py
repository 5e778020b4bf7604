"""How many programs a watch names that live for 20 ms after their packet: `python -m benchmarks.watch [COUNT] [exec]`.

They are forked, which costs little beside what is measured; with `exec` each is started anew.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from test_watch import LOGGED, SENDER, STORM, Watching, armed

from sandbox import Sandbox

LIFE, AT_ONCE = "0.02", 4
# As STORM, without starting Python ten thousand times.
FORKED = """
import json, os, sys
program, count, at_once = compile(sys.argv[1], "sender", "exec"), int(sys.argv[2]), int(sys.argv[3])
import socket, time
pids, running, silent = {}, 0, os.open(os.devnull, os.O_WRONLY)
for number in range(count):
    pid = os.fork()
    if not pid:
        os.dup2(silent, 1)
        sys.argv = ["", "tcp4" if number % 2 else "udp4", str(20000 + number), "0", sys.argv[4]]
        exec(program)
        os._exit(0)
    pids[20000 + number] = pid
    running += 1
    if running >= at_once:
        os.wait()
        running -= 1
for _ in range(running):
    os.wait()
print(json.dumps(pids))
"""


def main(count: int, storm: str) -> None:
    """Start programs, a few at a time, and print how many were named, not named, and named wrongly."""
    named: Counter[str] = Counter()
    with Sandbox() as sandbox:
        armed(sandbox, LOGGED)
        for begun in range(0, count, 500):
            number = min(500, count - begun)
            watching = Watching(sandbox)
            senders = sandbox.start(sys.executable, "-c", storm, SENDER, str(number), str(AT_ONCE), LIFE)
            pids = json.loads(senders.communicate()[0].splitlines()[-1])
            for row in watching.rows(set(map(int, pids))):
                if str(row["port"]) in pids:
                    right = "right" if row["pid"] == pids[str(row["port"])] else "wrong"
                    named[f"{row['protocol']} {'not named' if row['pid'] is None else right}"] += 1
    for what, times in sorted(named.items()):
        print(f"{what:<16} {times:6}")
    print(f"{'right':<16} {sum(times for what, times in named.items() if what.endswith('right')) / count:6.1%} of {count}")


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    main(numbers[0] if numbers else 10_000, STORM if "exec" in sys.argv[1:] else FORKED)

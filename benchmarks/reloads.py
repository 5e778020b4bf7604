"""Loads a lock over itself many times under a flood that no rule allows: `python -m benchmarks.reloads [COUNT] [BACKEND…]`.

A hundred loads are one run of the drill's `rearm-flood`, in a lab of its own. First comes the control: a table of nftables' that is
replaced as nearly everybody does it, by which packets are seen to leave.
"""

from __future__ import annotations

import sys
import time

from failshut.drill.choices import Backend
from failshut.drill.pool import Job, Worker
from failshut.drill.rules.source import RuleSource
from failshut.drill.scenarios import SCENARIOS
from failshut.drill.scenarios.reload import REARMS
from lab.drilling import example_policy, rehearsal_by

COUNT = 1000
EVERY = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)


def main(count: int, backends: list[Backend]) -> int:
    """Print what each run found; return how many packets left by the locks."""
    left = 0
    for number, backend in enumerate(backends or EVERY):
        worker = Worker(rehearsal_by(example_policy(), backend))
        try:
            if not number:
                one(worker, RuleSource.NONE, "the control")
            left += sum(one(worker, RuleSource.LOCK, str(backend)) for _ in range(max(count // REARMS, 1)))
        finally:
            worker.close()
    return left


def one(worker: Worker, source: RuleSource, name: str) -> int:
    """Do one run, and return how many packets left."""
    began = time.monotonic()
    result = worker.run(Job(SCENARIOS["rearm-flood"], source))
    if result.reason:
        raise SystemExit(f"{name}: {result.reason}")
    took = time.monotonic() - began
    print(f"{name}: {', '.join(result.notes)} in {took:.0f} s, {result.sent} packets sent, {result.leaked} left", flush=True)
    return result.leaked


if __name__ == "__main__":
    words = sys.argv[1:]
    numbers = [int(each) for each in words if each.isdigit()]
    sys.exit(1 if main(numbers[0] if numbers else COUNT, [Backend(each) for each in words if not each.isdigit()]) else 0)

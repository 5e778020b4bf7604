"""`make bench`: what the lock costs beside what people use instead. `python -m benchmarks [PART…] [--write] [--check] [--keep]`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from benchmarks import baseline, page
from benchmarks.figures import Figure
from benchmarks.ground import described

# In this order; what needs Debian's trees, or minutes, comes last.
PARTS = ("cost", "growth", "load", "start", "fleet", "traffic", "repair", "proofs", "boot")
CHECKED = ("cost", "growth", "start")


def main() -> None:
    """Measure the named parts, or all of them, and print a table for each."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    arguments.add_argument("--write", action="store_true", help="write the tables into docs/reference/cost.md, and draw them")
    arguments.add_argument("--keep", action="store_true", help="make the ratios the baseline")
    arguments.add_argument("--check", action="store_true", help="say which ratios are worse than the baseline's; exit code 1 then")
    asked = arguments.parse_args()
    if unknown := [each for each in asked.parts if each not in PARTS]:
        arguments.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if os.geteuid() != 0:
        sys.exit("benchmarks need root: they make network namespaces")
    print(described())
    found: list[Figure] = []
    for part in asked.parts or (CHECKED if asked.check else PARTS):
        print(f"\n{part}", flush=True)
        # In a process of its own: it goes into namespaces, and comes back from none.
        with ProcessPoolExecutor(1) as apart:
            figures = apart.submit(_measured, part).result()
        print(page.tables(figures), flush=True)
        if asked.write:
            page.write(part, figures)
        found += figures
    if asked.keep:
        baseline.keep(found)
    if asked.check and (lines := baseline.worse(found)):
        sys.exit("\nworse than the baseline:\n" + "\n".join(f"  {each}" for each in lines))


def _measured(part: str) -> list[Figure]:
    return list(importlib.import_module(f"benchmarks.parts.{part}").measure())


if __name__ == "__main__":
    main()

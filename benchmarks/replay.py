"""Replay what the audit finds in a collection of rulesets: `python benchmarks/replay.py [NAME…]`, as root.

The collection is a folder of folders (FAILSHUT_RULESETS), each with what a kernel held: `loaded.v4.save` and `loaded.v6.save`, or
`loaded.nft`. Prints the counts for each, and every packet that was not confirmed with the reason.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

from audit_questions import files_of
from failshut.audit.answer.explain import explain
from failshut.audit.answer.result import Outcome
from failshut.audit.prove import audit
from failshut.audit.world.infer import infer
from failshut.drill.replay.rules import of_files
from failshut.drill.replay.start import replay
from failshut.read import read_ruleset
from failshut.read.files.joined import together

COLLECTION = Path(os.environ.get("FAILSHUT_RULESETS", Path(__file__).parents[2] / "shared" / "rulesets"))


def main(names: list[str]) -> None:
    """Replay the named rulesets, or all of them."""
    total: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    for folder in sorted(each for each in COLLECTION.iterdir() if each.is_dir() and (not names or each.name in names)):
        texts = [(str(each), each.read_bytes()) for each in files_of(folder)]
        ruleset = together([read_ruleset(text, name) for name, text in texts]).ruleset
        world = infer(ruleset)
        results = audit(ruleset, world)
        start = time.monotonic()
        counts: Counter[tuple[str, str]] = Counter()
        print(folder.name, end="", flush=True)
        missed = []
        for result in replay(results, of_files(texts), ruleset, world):
            for witness in result.witnesses:
                if witness.replay is None:
                    continue
                counts[result.question.sense.value, witness.replay.outcome.value] += 1
                if witness.replay.outcome is not Outcome.CONFIRMED:
                    words = explain(result, witness)
                    line = f"{result.question.name}: {words.packet} by {words.rule}: {witness.replay.outcome}: "
                    missed.append(line + witness.replay.happened)
        print(f" ({time.monotonic() - start:.1f} s): {_words(counts)}")
        for each in missed:
            print(f"    {each}")
        total += counts
    print(f"{_words(total)} in {time.monotonic() - began:.0f} s")


def _words(counts: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} {sense}s {outcome}" for (sense, outcome), count in sorted(counts.items()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Which mistakes in our own lock the audit notices: `python -m benchmarks.audit_mutants [GOLDEN CASE]`.

Every rule is deleted, widened by each of its conditions and moved, one at a time; of those that let more out than before, the audit
must notice nearly all, and the rest are printed.
"""

from __future__ import annotations

import sys

from audit_golden import case_ruleset, case_world
from audit_mutants import is_noticed, mutants
from failshut.audit.difference import opened, opened_beyond
from golden_cases import CASES


def main(name: str) -> None:
    """Print the share that is noticed, and each that is not."""
    case = next(each for each in CASES if each.name == name)
    lock, world = case_ruleset(case), case_world(case)
    count = within = opening = noticed = 0
    for what, mutant in mutants(lock):
        count += 1
        if not opened_beyond(lock, mutant, world):
            # More than the lock lets out, but nothing that the policy does not allow: the lock is narrower than its policy.
            if opened(lock, mutant, world):
                within += 1
                print(f"only what the policy allows: {what}", flush=True)
            continue
        opening += 1
        if is_noticed(mutant, world):
            noticed += 1
        else:
            print(f"not noticed: {what}", flush=True)
    print(
        f"{name}: {count} mutants, {opening} let out what the policy does not allow, "
        f"{noticed} of them noticed ({100 * noticed / max(opening, 1):.1f} %); "
        f"{within} let more out, but nothing that the policy does not allow"
    )


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "guide")

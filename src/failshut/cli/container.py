"""`python3 -m failshut.cli.container`: print the policy that the `FAILSHUT_*` variables say. The image's entrypoint runs it."""

from __future__ import annotations

import os
import sys

from failshut.model.exits import Exit


def main() -> Exit:
    """Print the policy, or every mistake with its variable and its remedy."""
    from failshut.config.environment import policy_text

    text = policy_text(os.environ)
    if isinstance(text, str):
        print(text)  # noqa: T201 - the program's only output
        return Exit.OK
    for each in text:
        remedy = f"\n  help: {each.help}" if each.help else ""
        print(f"error[{each.code}]: {each.place}: {each.message}{remedy}", file=sys.stderr)  # noqa: T201
    return Exit.USAGE


if __name__ == "__main__":
    sys.exit(main())

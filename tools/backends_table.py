"""Writes the table of docs/reference/backends.md from the drill's own JSON: which attack each backend holds.

python tools/backends_table.py                      runs the whole drill by every backend (minutes each), as root
python tools/backends_table.py NAME=FILE.json …     takes what `failshut drill --example --backend NAME --json` wrote
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from failshut.drill.choices import Backend

PAGE = Path(__file__).parent.parent / "docs/reference/backends.md"
BEGIN, END = "<!-- table: tools/backends_table.py -->\n", "<!-- end of the table -->\n"
# `iptables` is one of the two engines.
EVERY = tuple(each for each in Backend if each is not Backend.IPTABLES)


def drilled(backend: str) -> list[dict[str, Any]]:
    """Run the whole drill by a backend; its control runs are those of the nftables one."""
    control = () if backend == Backend.NFTABLES else ("--no-control",)
    command = (sys.executable, "-m", "failshut", "drill", "--example", "--backend", backend, *control, "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{backend}: {done.stderr}")
    return list(json.loads(done.stdout)["scenarios"])


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table, a row for each scenario that ran by any of them."""
    by_name = {backend: {each["name"]: each for each in scenarios} for backend, scenarios in runs.items()}
    names = list(dict.fromkeys(name for scenarios in by_name.values() for name in scenarios))
    lines = [f"| scenario | what | {' | '.join(runs)} |", f"|---|---|{'---|' * len(runs)}"]
    for name in names:
        found = [scenarios.get(name) for scenarios in by_name.values()]
        if all(each is None or each["status"] == "skipped" for each in found):
            continue
        title = next(each["title"] for each in found if each)
        lines.append(f"| `{name}` | {title} | {' | '.join(map(_word, found))} |")
    return "".join(f"{line}\n" for line in lines)


def _word(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return ""
    if outcome["status"] == "leaked":
        return f"**{outcome['leaked']} leaked**"
    if outcome["status"] == "held":
        return "works" if outcome["kind"] == "works" else "held"
    return str(outcome["status"])


def main() -> None:
    """Write the table into the page."""
    given = dict(each.split("=", 1) for each in sys.argv[1:])
    runs = {name: list(json.loads(Path(file).read_text())["scenarios"]) for name, file in given.items()} or {
        str(each): drilled(each) for each in EVERY
    }
    page = PAGE.read_text()
    before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(page[:before] + table(runs) + page[after:])


if __name__ == "__main__":
    main()

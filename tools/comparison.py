"""Write the README's table of measured attacks: the drill's own run, beside rules that people use.

`python tools/comparison.py`, as root; two minutes. The rules are in docs/comparison; yours: `failshut drill --beside`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
MARKS = ("<!-- tools/comparison.py: begin -->\n", "<!-- end -->")
# Column, and the files of docs/comparison that make it.
OTHERS = {"wg-quick(8)'s own rule": "wg-quick", "default deny, `ESTABLISHED`": "tutorial"}
ATTACKS = {
    "rule-lost": "the tunnel's routing rule is lost in the middle of an upload",
    "dhcp-option-121": "a rogue DHCP server's routes (TunnelVision, CVE-2024-3661)",
    "clear-tracked": "connections that were open before arming",
    "rogue-payload": "any program to the server's port (TunnelCrack, CVE-2023-36673)",
    "dns-lan": "names asked of the LAN's resolver",
    "rerouting-mark": "another tool's mark re-routes the packets",
    "packet-sockets": "raw frames (AF_PACKET)",
    "container": "a container, the tunnel down",
    "macvlan": "a container on macvlan",
    "bridged-guest": "a virtual machine bridged onto the cable",
    "tunnel-probed": "the tunnel's address probed from the LAN (CVE-2019-14899)",
}


def main() -> None:
    """Measure, and write the table into the README."""
    runs = {title: drill(name) for title, name in OTHERS.items()}
    first = next(iter(runs.values()))
    lines = [f"| attack | no kill switch | {' | '.join(OTHERS)} | failshut |", f"|---|{'--:|' * (len(OTHERS) + 2)}"]
    for name, title in ATTACKS.items():
        beside = [leaked(run[name]) for run in runs.values()]
        numbers = [first[name]["without_the_lock"], *beside, max(run[name]["leaked"] for run in runs.values())]
        cells = [f"{each:,}" if isinstance(each, int) else each for each in numbers]
        lines.append(f"| {title} | {' | '.join(cells[:-1])} | **{cells[-1]}** |")
    table = "".join(f"{line}\n" for line in lines)
    begin, end = MARKS
    text = README.read_text(encoding="utf-8")
    README.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{table}{end}", text, flags=re.DOTALL), encoding="utf-8")
    print(table)


def drill(name: str) -> dict[str, dict]:
    """Run the attacks without rules, under failshut and under the rules of this name; return each scenario's numbers."""
    others = [f"--beside={REPOSITORY}/docs/comparison/{name}.{family}" for family in ("v4", "v6")]
    argv = (sys.executable, "-m", "failshut", "drill", "--example", "--json", *others, *ATTACKS)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return {each["name"]: each for each in json.loads(done.stdout)["scenarios"]}


def leaked(scenario: dict) -> int | str:
    """Return how much leaked under the other rules, or that the run proves nothing."""
    beside = scenario["beside"]
    return "void" if beside["reason"] else beside["leaked"]


if __name__ == "__main__":
    main()

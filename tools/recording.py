"""Draw docs/images/drill.svg: a real run of the drill on the example policy, its lines in the time in which they came.

`python tools/recording.py [SCENARIO]…`, as root; about a minute.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

TARGET = Path(__file__).resolve().parents[1] / "docs/images/drill.svg"
COLUMNS = 132
# Of each kind one or two, and what must go on working.
SCENARIOS = (
    *("guide-1", "guide-2", "rule-lost", "dhcp-option-121", "dns-lan", "rogue-payload", "rerouting-mark", "iptables-accept"),
    *("packet-sockets", "macvlan", "bridged-guest", "tunnel-probed", "rearm-flood", "works-lan", "works-inbound", "works-recovery"),
)
# In seconds, as the picture shows it; the run itself takes longer, and its last lines say how long.
SHOWN, TYPED = 14.0, 1.0


def main() -> None:
    """Run the drill, keep when each line came, draw."""
    words = sys.argv[1:] or SCENARIOS
    lines = run(words)
    command = f"$ failshut drill --example {words[0]} {words[1]} … {words[-1]}"
    TARGET.write_text(animated(draw([command, *(text for _, text in lines)]), delays([at for at, _ in lines])), encoding="utf-8")
    print(TARGET)


def run(scenarios: tuple[str, ...] | list[str]) -> list[tuple[float, str]]:
    """Return each line that the drill printed, with the second in which it came."""
    began = time.monotonic()
    drill = subprocess.Popen(
        (sys.executable, "-u", "-m", "failshut", "drill", "--example", "--color=always", *scenarios),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"},
    )
    lines = [(time.monotonic() - began, line.rstrip("\n")) for line in drill.stdout]
    if drill.wait():
        sys.exit("".join(f"{text}\n" for _, text in lines) + "the drill failed: nothing is drawn")
    return lines


def draw(lines: list[str]) -> str:
    """Return a terminal with these lines as SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False, no_wrap=True, overflow="crop")
    return console.export_svg(title="failshut drill", theme=MONOKAI, unique_id="drill")


def delays(times: list[float]) -> list[float]:
    """Return when each line of the picture appears; the command is there from the beginning."""
    longest = max(times)
    return [0.0, *(TYPED + at / longest * SHOWN for at in times)]


def animated(svg: str, appear: list[float]) -> str:
    """Return the SVG with each line hidden until its time. A viewer that knows no animation shows all of them."""
    rules = ["@keyframes wait { from, to { opacity: 0 } }"]
    rules += [f'[clip-path="url(#drill-line-{line})"] {{ animation: wait {at:.2f}s }}' for line, at in enumerate(appear) if at]
    # A picture fetches nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    rules.append("@media (prefers-reduced-motion) { * { animation: none !important } }")
    return re.sub(r"</style>", "\n".join(rules) + "\n</style>", svg, count=1)


if __name__ == "__main__":
    main()

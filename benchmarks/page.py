"""Writes what was measured into docs/reference/cost.md, between its marks, and draws it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure, Unit
from benchmarks.ground import described

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "reference/cost.md"
_BEGIN, _END = "<!-- {part}: written by `make bench` -->", "<!-- /{part} -->"


def tables(figures: Sequence[Figure]) -> str:
    """Return a table in Markdown for each subject; the spread of the ratios stands behind them."""
    pieces = []
    for title in dict.fromkeys(each.table for each in figures):
        own = [each for each in figures if each.table == title]
        columns = list(dict.fromkeys(each.column for each in own))
        cells = {(each.row, each.column): _cell(each) for each in own}
        lines = [f"| {title} | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        lines += [
            f"| {row} | {' | '.join(cells.get((row, each), '') for each in columns)} |"
            for row in dict.fromkeys(each.row for each in own)
        ]
        pieces.append("\n".join(lines))
    return "\n\n".join(pieces)


def write(part: str, figures: Sequence[Figure]) -> None:
    """Put a part's tables into the page, with the machine and the day."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = _BEGIN.format(part=part), _END.format(part=part)
    said = f"{begin}\n{described()}, {datetime.now(UTC):%Y-%m-%d}.\n\n{tables(figures)}\n{end}"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(text):
        raise SystemExit(f"{PAGE} has no place for {part}: write `{begin}` and `{end}` into it")
    PAGE.write_text(found.sub(lambda _: said, text), encoding="utf-8")
    if part in _DRAWN:
        _DRAWN[part](figures, DOCS / f"images/{part}.svg")


def draw_cost(figures: Sequence[Figure], file: Path) -> None:
    """Draw the ratios of the cost of a packet as bars, with their quartiles."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - of the extra `plot`

    shown = [each for each in figures if each.unit is Unit.RATIO]
    columns = list(dict.fromkeys(each.column for each in shown))
    rows = list(dict.fromkeys(each.row for each in shown))
    plt.rcParams["svg.hashsalt"] = "failshut"
    plot, axes = plt.subplots(1, len(columns), figsize=(4 * len(columns), 0.45 * len(rows) + 1), sharey=True, layout="constrained")
    for axis, column in zip(axes, columns, strict=True):
        own = {each.row: each for each in shown if each.column == column}
        values = [own[row].value for row in rows]
        spread = [[own[row].value - own[row].low for row in rows], [own[row].high - own[row].value for row in rows]]
        colours = ["tab:green" if row.startswith("failshut") else "tab:gray" for row in rows]
        axis.barh(rows, values, color=colours, xerr=[[max(each, 0) for each in side] for side in spread], ecolor="black", capsize=2)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{column}, no rules = 1")
    axes[0].invert_yaxis()
    plot.savefig(file, metadata={"Date": None})


def draw_growth(figures: Sequence[Figure], file: Path) -> None:
    """Draw each table of growth: the ratios of a packet's cost above, with their quartiles, and the seconds of a load below."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - of the extra `plot`

    titles = list(dict.fromkeys(each.table for each in figures))
    plt.rcParams["svg.hashsalt"] = "failshut"
    plot, axes = plt.subplots(2, len(titles), figsize=(5 * len(titles), 6), sharey="row", layout="constrained")
    for column, title in enumerate(titles):
        own = [each for each in figures if each.table == title]
        for name in dict.fromkeys(each.column for each in own):
            line = [each for each in own if each.column == name]
            sizes = [int(each.row.replace(",", "")) for each in line]
            spread = [[each.value - each.low for each in line], [each.high - each.value for each in line]]
            axis = axes[0 if line[0].unit is Unit.RATIO else 1, column]
            axis.errorbar(
                sizes,
                [each.value for each in line],
                [[max(each, 0) for each in side] for side in spread],
                marker="o",
                capsize=2,
                label=name,
            )
        for axis, what in zip(axes[:, column], ("CPU per packet, the smallest = 1", "seconds to load"), strict=True):
            axis.set(xscale="log", xlabel=title.lower(), ylabel=what if not column else "")
            axis.legend()
        axes[0, column].set_ylim(0, 2)
        axes[1, column].set_yscale("log")
    plot.savefig(file, metadata={"Date": None})


_DRAWN = {"cost": draw_cost, "growth": draw_growth}


def _cell(each: Figure) -> str:
    return f"{each.text} ({each.low:.2f} to {each.high:.2f})" if each.unit is Unit.RATIO else each.text

"""A run as a picture: above the line what left by a cable, below it what was held back, in 100 ms. Pure geometry for an SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil

from failshut.drill.timeline import BIN_SECONDS, Timeline

# In the picture's own units.
WIDTH, HEIGHT = 400, 140
LEFT, RIGHT, TOP, LINE, BOTTOM = 34, 394, 14, 84, 120
# A single leaked packet is seen beside thousands that were blocked.
LEAST_LEAK, LEAST_SEEN = 4.0, 1.5
_WIDE_COLUMN = 3.0
_STEPS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_MOST_TICKS, _TICK_WIDTH = 7, 32
# In seconds: what is shown of the time before an attack, unless something leaked even earlier.
_SHOWN_BEFORE = 0.8


@dataclass(frozen=True, slots=True)
class Scale:
    """What the charts of one attack share: seconds before and after it began, and the most packets of a bin, up and down."""

    before: float
    after: float
    up: int
    down: int

    def x(self, seconds: float) -> float:
        """Return where a moment lies; 0 is when the attack began."""
        return LEFT + (seconds + self.before) / (self.before + self.after) * (RIGHT - LEFT)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the time axis."""

    x: float
    word: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The paths of one run's picture, and where the attack lies in it. An empty path: nothing of that kind."""

    leaked: str
    allowed: str
    tunnel: str
    blocked: str
    attack: tuple[float, float]
    # Where a leak was seen, for a mark that needs no colour.
    flags: tuple[float, ...]
    ticks: tuple[Tick, ...]


def scale_of(runs: Sequence[Timeline]) -> Scale:
    """Return the scale that several runs of one attack share."""
    shown = [each for each in runs if each.sent]
    up = [sum(row) for each in shown for row in zip(each.tunnel, each.allowed, each.leaked, strict=True)]
    down = [number for each in shown for number in each.blocked]
    return Scale(
        before=max((_before(each) for each in shown), default=0.0),
        after=max((len(each.sent) * BIN_SECONDS - each.began for each in shown), default=1.0),
        up=max([*up, 1]),
        down=max([*down, 1]),
    )


def _before(run: Timeline) -> float:
    first_leak = next((at * BIN_SECONDS for at, number in enumerate(run.leaked) if number), run.began)
    return max(min(run.began, _SHOWN_BEFORE), run.began - first_leak)


def chart(run: Timeline, scale: Scale) -> Chart:
    """Return the picture of a run."""
    # Whole numbers where a column is wide enough for them: pages have thousands of columns.
    digits = 0 if scale.x(BIN_SECONDS) - scale.x(0.0) > _WIDE_COLUMN else 1
    edges = [max(round(scale.x(at * BIN_SECONDS - run.began), digits), LEFT) for at in range(len(run.sent) + 1)]
    rows = list(zip(run.tunnel, run.allowed, run.leaked, strict=True))
    tunnel = [_up(tunnel, scale, LEAST_SEEN) for tunnel, _, _ in rows]
    allowed = [low + _up(allowed, scale, LEAST_SEEN) for low, (_, allowed, _) in zip(tunnel, rows, strict=True)]
    leaked = [low + _up(leaked, scale, LEAST_LEAK) for low, (_, _, leaked) in zip(allowed, rows, strict=True)]
    blocked = [-max(number / scale.down * (BOTTOM - LINE - 2), 1.0) if number else 0.0 for number in run.blocked]
    return Chart(
        leaked=_area(edges, leaked) if any(run.leaked) else "",
        allowed=_area(edges, allowed) if any(run.allowed) else "",
        tunnel=_area(edges, tunnel),
        blocked=_area(edges, blocked),
        attack=(round(scale.x(0.0), 1), round(scale.x(max(run.ended - run.began, 0.0)), 1)),
        flags=tuple((edges[at] + edges[at + 1]) / 2 for at in _first_of_each(run.leaked)),
        ticks=tuple(_ticks(scale)),
    )


def _up(number: int, scale: Scale, least: float) -> float:
    return max(number / scale.up * (LINE - TOP), least) if number else 0.0


def _area(edges: Sequence[float], heights: Sequence[float]) -> str:
    """Return the outline of columns that stand on the line (or hang from it), as the `d` of a path: one for each stretch."""
    path, at, is_open = [], 0, False
    for height, group in groupby(round(each) for each in heights):
        end = at + len(list(group))
        across = edges[end] - edges[at]
        if height and across > 0:
            # A stack is a little taller than its scale where the least heights add up: it must not leave the picture.
            path.append(f"{'' if is_open else f'M{edges[at]:g} {LINE}'}V{max(LINE - height, 2)}h{across:.3g}")
            is_open = True
        elif is_open and not height:
            path.append(f"V{LINE}z")
            is_open = False
        at = end
    return "".join([*path, f"V{LINE}z"] if is_open else path)


def _first_of_each(leaked: Sequence[int]) -> Iterable[int]:
    """Yield where each stretch with leaks begins."""
    return (at for at, number in enumerate(leaked) if number and not (at and leaked[at - 1]))


def _ticks(scale: Scale) -> Iterable[Tick]:
    span = scale.before + scale.after
    step = next((each for each in _STEPS if span / each <= _MOST_TICKS), _STEPS[-1])
    for number in range(-int(scale.before / step), ceil(scale.after / step)):
        x = round(scale.x(number * step), 1)
        if LEFT < x < RIGHT - _TICK_WIDTH / 2:
            yield Tick(x, f"{number * step:+g} s" if number else "0")

"""Draw the live view in its states into docs/images: `.venv/bin/python tools/screenshots.py`."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from failshut.allowances.openings import Open
from failshut.tui.app import Top
from failshut.tui.snapshot import Snapshot
from tui import moments

_IMAGES = Path(__file__).parents[1] / "docs/images"
# A page of ours loads nothing from elsewhere: the reader's own fonts do.
_FONTS = re.compile(r"@font-face\s*{[^}]*}")
_STATES: dict[str, Sequence[Snapshot]] = {
    "top-locked": [moments.locked(each * each * 90, (Open(moments.SITE, 270),)) for each in range(40)],
    "top-tunnel-down": [moments.locked(), moments.tunnel_down()],
    "top-drift": [moments.locked(), moments.drifted()],
}


async def draw(name: str, states: Sequence[Snapshot]) -> None:
    """Show the states one after the other, and keep the last."""
    coming = chain(states, repeat(states[-1]))
    app = Top(lambda: next(coming), every=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in states[1:]:
            await app.workers.wait_for_complete()
            app.refresh_now()
        await app.workers.wait_for_complete()
        await pilot.pause()
        drawn = app.export_screenshot(title="failshut top")
    (_IMAGES / f"{name}.svg").write_text(_FONTS.sub("", drawn), encoding="utf-8")


for title, shown in _STATES.items():
    asyncio.run(draw(title, shown))

"""The live view, driven by keys on a screen of 80 columns and 24 lines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, RichLog, Static

from failshut.allowances.openings import Open
from failshut.tui.app import Top
from failshut.tui.snapshot import Snapshot, changes
from tui.moments import SITE, disarmed, drifted, locked, tunnel_down, unknown

Drive = Callable[[Top, Pilot], Awaitable[None]]


def drive(moments: list[Snapshot], steps: Drive) -> None:
    """Run the view over these moments, the last of them for ever, and `steps` on it."""
    coming = chain(moments, repeat(moments[-1]))

    async def run() -> None:
        # Read when the test says so, and not by the clock.
        app = Top(lambda: next(coming), every=3600)
        async with app.run_test(size=(80, 24)) as pilot:
            await settled(app, pilot)
            await steps(app, pilot)

    asyncio.run(run())


async def settled(app: Top, pilot: Pilot) -> None:
    await app.workers.wait_for_complete()
    await pilot.pause()


def text(app: Top, name: str) -> str:
    return str(app.query_one(name, Static).content)


def events(app: Top) -> str:
    return "\n".join(line.text for line in app.query_one("#events", RichLog).lines)


@pytest.mark.parametrize(
    ("moment", "word"),
    [
        (locked(), "LOCKED  nothing leaves but through wg0"),
        (tunnel_down(), "LOCKED, TUNNEL DOWN  nothing leaves until wg0 is back"),
        (drifted(), "DRIFT  the kernel's rules are not the armed ones"),
        (disarmed(), "OPEN  nothing is held back: `failshut arm` turns the lock on"),
        (unknown(), "UNKNOWN  Operation not permitted (you must be root)"),
    ],
)
def test_the_state_is_said_by_a_word(moment, word):
    """Also without colour."""

    async def steps(app: Top, _: Pilot) -> None:
        assert text(app, "#state") == word

    drive([moment], steps)


@pytest.mark.parametrize(
    ("listens", "shown"),
    [(True, ["37", "firefox-esr[2214]", "tracker.example tcp/443"]), (False, ["1180", "", "198.51.100.9 tcp/443"])],
)
def test_what_was_refused_is_a_table_by_program(listens, shown):
    """With the log by program, without it by the kernel's counts."""

    async def steps(app: Top, _: Pilot) -> None:
        table = app.query_one("#refused", DataTable)
        packets, program, _, to = map(str, table.get_row_at(0))
        assert [packets, program, to] == shown

    drive([locked(listens=listens)], steps)


def test_what_changes_is_an_event_and_shows_in_the_sparkline():
    """The tunnel falls and comes back; what went through is drawn."""

    async def steps(app: Top, pilot: Pilot) -> None:
        for _ in range(2):
            app.refresh_now()
            await settled(app, pilot)
        said = events(app)
        assert "LOCKED, TUNNEL DOWN: nothing leaves until wg0 is back" in said
        assert "wg0 is down" in said
        assert "wg0 is up" in said
        assert max(app.query_one("#through").data) == 4000

    drive([locked(), tunnel_down(), locked(through=3000)], steps)


def test_a_key_asks_what_to_open_and_leaves_it_alone_on_escape():
    """And failshut itself is asked to open it: here there is no policy, and it says so."""

    async def steps(app: Top, pilot: Pilot) -> None:
        await pilot.press("a")
        await pilot.pause()
        assert app.screen.query_one(Input).has_focus
        await pilot.press("escape")
        await settled(app, pilot)
        assert "failshut" not in events(app)
        await pilot.press("a")
        await pilot.pause()
        await pilot.press(*"nothing", "enter")
        await settled(app, pilot)
        assert "--for" in events(app)

    drive([locked()], steps)


def test_a_key_lists_what_is_open_to_end_it():
    """With nothing open there is nothing to choose."""

    async def steps(app: Top, pilot: Pilot) -> None:
        assert "to 192.0.2.7:443/tcp, 4 min 30 s left" in text(app, "#open")
        await pilot.press("r")
        await pilot.pause()
        listed = app.screen.query_one(OptionList)
        assert str(listed.get_option_at_index(0).prompt) == "to 192.0.2.7:443/tcp"
        await pilot.press("escape")

    drive([locked(opened=(Open(SITE, 270),))], steps)


def test_the_same_as_lines_for_those_who_hear_them():
    """Each change is a sentence; the first moment is its state alone."""
    first, then = locked(), locked(opened=(Open(SITE, 270),))

    assert list(changes(None, first)) == ["LOCKED: nothing leaves but through wg0"]
    assert list(changes(first, first)) == []
    assert list(changes(first, then)) == ["opened: to 192.0.2.7:443/tcp"]
    assert list(changes(then, tunnel_down())) == [
        "LOCKED, TUNNEL DOWN: nothing leaves until wg0 is back",
        "shut again: to 192.0.2.7:443/tcp",
        "wg0 is down",
    ]
    assert list(changes(Snapshot(first.status, (), ()), first)) == [
        "refused: unknown program → 2001:db8:7::7 port 80",
        "refused: ntpd → 203.0.113.123 port 123",
        "refused: firefox-esr → tracker.example port 443",
    ]

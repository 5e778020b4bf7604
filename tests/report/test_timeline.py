"""A run in packets per 100 ms, and its picture."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.drill.timeline import Timeline, binned, timeline_from
from failshut.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, chart, scale_of

SMALL = st.integers(0, 40)
ROWS = st.lists(st.tuples(SMALL, SMALL, SMALL, SMALL), min_size=1, max_size=60)


def timeline(rows, began=0.3) -> Timeline:
    sent, tunnel, allowed, leaked = zip(*rows, strict=True)
    return Timeline(began, began + 0.2, sent, tunnel, allowed, leaked)


def test_every_moment_falls_into_a_bin():
    """Also what was seen as the capture ended, and what was only counted."""
    assert binned([0.0, 0.05, 0.1, 0.31, 9.0], 4, {1: 5, 7: 2}) == (2, 6, 0, 4)


def test_a_packet_that_is_seen_in_the_next_bin_was_not_blocked():
    """Sent as one bin ends, captured as the next begins."""
    assert timeline([(10, 8, 0, 0), (10, 12, 0, 0), (10, 4, 1, 0)]).blocked == (0, 0, 5)


@given(ROWS)
def test_what_is_blocked_is_never_more_than_what_was_sent_and_not_seen(rows):
    """Bin by bin the sum is at most what is missing there; over the whole run it is at least what is missing."""
    line = timeline(rows)
    seen = sum(line.tunnel) + sum(line.allowed) + sum(line.leaked)

    assert len(line.blocked) == len(line.sent)
    assert all(0 <= blocked <= sent for blocked, sent in zip(line.blocked[:1], line.sent[:1], strict=True))
    assert sum(line.blocked) >= sum(line.sent) - seen
    assert sum(line.blocked) <= sum(max(sent - tunnel - allowed - leaked, 0) for sent, tunnel, allowed, leaked in rows)


@given(ROWS)
def test_a_timeline_survives_json(rows):
    """Workers answer in JSON: lists come back as tuples."""
    line = timeline(rows)
    fields = {name: getattr(line, name) for name in ("began", "ended", "sent", "tunnel", "allowed", "leaked")}

    assert timeline_from({name: list(each) if isinstance(each, tuple) else each for name, each in fields.items()}) == line


@given(ROWS, ROWS)
def test_a_picture_stays_in_its_frame(first, second):
    """Two runs of one attack share a scale; nothing is drawn beside the picture."""
    runs = [timeline(first), timeline(second, began=1.7)]
    scale = scale_of(runs)
    for run in runs:
        drawn = chart(run, scale)
        for path in (drawn.leaked, drawn.allowed, drawn.tunnel, drawn.blocked):
            for stretch in path.split("z")[:-1]:
                start = float(stretch[1:].split()[0])
                end = start + sum(float(each) for each in re.findall(r"h(-?[\d.]+)", stretch))
                down = [float(each) for each in re.findall(r"V(-?[\d.]+)", stretch)]
                assert LEFT <= start < end <= RIGHT + 0.5
                assert all(0 < each <= BOTTOM for each in down)
        assert all(0 <= each.x <= WIDTH for each in drawn.ticks)
        assert BOTTOM < HEIGHT


@pytest.mark.parametrize("leaked", [1, 100_000])
def test_a_single_leaked_packet_is_seen(leaked):
    """Beside a flood of others, and marked without colour too; a run without one has neither."""
    with_leak = timeline([(50, 40, 1, 0), (100_000, 5_000, 0, leaked), (50, 0, 0, 0)])
    without = timeline([(50, 40, 1, 0), (50, 0, 0, 0)])
    scale = scale_of([with_leak, without])

    assert chart(with_leak, scale).leaked
    assert len(chart(with_leak, scale).flags) == 1
    assert chart(without, scale).leaked == ""
    assert chart(without, scale).flags == ()


def test_a_leak_before_the_attack_is_in_the_picture():
    """What is shown of the time before an attack is short, but never too short for that."""
    early = timeline([(5, 0, 0, 1), *[(5, 5, 0, 0)] * 30], began=2.9)
    calm = timeline([(5, 5, 0, 0)] * 30, began=2.9)

    assert scale_of([early]).before == pytest.approx(2.9)
    assert scale_of([calm]).before == pytest.approx(0.8)
    assert len(chart(early, scale_of([early])).flags) == 1

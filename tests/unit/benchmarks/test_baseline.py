"""What `make bench-check` says of ratios, without measuring any."""

from __future__ import annotations

import pytest

from benchmarks import baseline
from benchmarks.figures import Unit, figure, ratios


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "FILE", tmp_path / "baseline.json")


def _ratio(*values, row="failshut"):
    return figure("A packet", row, "transport", values, Unit.RATIO)


def test_a_ratio_that_is_worse_by_more_than_its_noise_is_named():
    """Both medians and the noise are said; better, or as good within the noise, says nothing."""
    baseline.keep([_ratio(1.38, 1.40, 1.42)])

    assert baseline.worse([_ratio(1.58, 1.60, 1.62)]) == ["A packet | failshut | transport: 1.40 → 1.60, noise 0.04"]
    assert baseline.worse([_ratio(1.41, 1.43, 1.45)]) == []
    assert baseline.worse([_ratio(1.10, 1.11, 1.12)]) == []
    assert baseline.worse([_ratio(1.10, 1.60, 2.30)]) == []


def test_only_ratios_are_held_and_a_new_one_is_named():
    """Another machine is another time; what the baseline has never seen is no silent pass."""
    baseline.keep([figure("A packet", "failshut", "ns", [900.0], Unit.NANOSECONDS), _ratio(1.4)])

    assert baseline.worse([figure("A packet", "failshut", "ns", [9000.0], Unit.NANOSECONDS)]) == []
    assert baseline.worse([_ratio(1.4, row="another")]) == [
        "A packet | another | transport: 1.40, and the baseline does not know it"
    ]


def test_parts_are_kept_one_by_one():
    """Keeping one leaves what is known of the others."""
    baseline.keep([_ratio(1.4)])
    baseline.keep([_ratio(1.2, row="another")])

    assert baseline.worse([_ratio(1.4), _ratio(1.2, row="another")]) == []


def test_a_round_is_compared_with_itself():
    """What the machine did meanwhile falls on both."""
    assert ratios([2.0, 30.0], [1.0, 15.0]) == [2.0, 2.0]

"""What the lock alone can't hold is known, shown with packets, and no surprise."""

import pytest

from failshut.drill.judgement.outcome import Status
from failshut.drill.scenarios import SCENARIOS, limits

LIMITS = [each.name for each in limits.SCENARIOS]


@pytest.mark.lab
@pytest.mark.parametrize("name", LIMITS)
def test_a_known_limit_is_reported_as_one(drilling, name):
    """If the lock holds it one day, the limit is to be taken off the list."""
    outcome = drilling.outcome(name)

    assert outcome.status is Status.LIMIT, outcome
    assert outcome.reason == SCENARIOS[name].limit

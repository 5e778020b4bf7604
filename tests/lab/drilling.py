"""What the lab's tests share: a worker for each test process, and the judgement of one scenario."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from failshut.cli.verbs.drill import EXAMPLE_DEVICES
from failshut.drill.choices import Backend
from failshut.drill.judgement.outcome import Outcome, RunResult, Status, conclude
from failshut.drill.network.rules import RuleSource
from failshut.drill.pool import Job, Worker, preflight, rehearse
from failshut.drill.run import Rehearsal
from failshut.drill.scenario import Scenario
from failshut.drill.scenarios import AT_LENGTH, SCENARIOS
from failshut.drill.workers.process import CannotDrillError
from failshut.host.network.probe import probe
from failshut.host.sources import load_policy
from failshut.model.policy import Policy

ALL = SCENARIOS | AT_LENGTH


def drills(name: str):
    """Mark a test as the one that runs a scenario of the drill: the numbers it holds are declared there."""

    def mark(function):
        function.drills = name
        return pytest.mark.lab(pytest.mark.scenario(*ALL[name].covers)(function))

    return mark


def example_rehearsal() -> Rehearsal:
    """Return the rehearsal of the bundled example policy, as `failshut drill --example` makes it."""
    return rehearsal_of_the_example(lambda policy: policy)


def example_policy() -> Policy:
    """Return the bundled example policy."""
    policy = load_policy(str(importlib.resources.files("failshut.examples") / "example.toml")).policy
    assert policy is not None
    return policy


def rehearsal_of_the_example(changed: Callable[[Policy], Policy]) -> Rehearsal:
    """Return the rehearsal of the example policy with a change."""
    policy = changed(example_policy())
    return rehearse(policy, replace(probe(policy), underlay=EXAMPLE_DEVICES))


def rehearsal_by(policy: Policy, backend: Backend) -> Rehearsal:
    """Return the rehearsal of a policy as another backend loads it."""
    return rehearse(policy, replace(probe(policy), underlay=EXAMPLE_DEVICES), backend=backend)


@pytest.fixture(scope="session")
def worker():
    """One worker for this test process: every run has namespaces of its own in it."""
    try:
        preflight(real_root=os.geteuid() == 0)
        started = Worker(example_rehearsal())
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    yield started
    started.close()


@dataclass(frozen=True)
class Drilling:
    """Runs scenarios and asserts their verdicts."""

    worker: Worker

    def run(self, name: str, source: RuleSource) -> RunResult:
        """Run a scenario once; a skip is loud, with its reason."""
        result = self.worker.run(Job(ALL[name], source))
        if result.skipped:
            pytest.skip(result.reason)
        return result

    def outcome(self, name: str) -> Outcome:
        """Run a scenario with the lock and with its control."""
        scenario: Scenario = ALL[name]
        lock = self.run(name, RuleSource.LOCK)
        control = self.run(name, scenario.control) if scenario.control else None
        return conclude(scenario, lock, control)

    def held(self, name: str) -> Outcome:
        """Assert 0 leaked with the lock, more than 0 without, and that the guide's rules leak where research says so."""
        outcome = self.outcome(name)
        assert outcome.lock.leaks == ()
        assert outcome.status is Status.HELD, outcome.reason
        if outcome.control:
            assert outcome.control.leaked > 0
        if outcome.scenario.guide_leaks:
            guide = self.run(name, RuleSource.GUIDE)
            assert not guide.reason
            assert guide.leaked > 0, "the guide's rules were not seen to leak: the detector, or research/kernel.md, is wrong"
        return outcome


@pytest.fixture
def held(worker):
    """Run a scenario by name and assert that the lock holds it."""
    return Drilling(worker).held


@pytest.fixture
def drilling(worker):
    """Run scenarios by name."""
    return Drilling(worker)

"""What every test shares: the options, the scenario report, the sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from amount import THOROUGHLY
from needed import needs_root_and
from sandbox import Sandbox
from scenario_report import ScenarioReport

# No timing is asserted: a loaded machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scenarios", metavar="FILE", help="write the catalogue of scenarios as this run held it")
    parser.addoption("--machines", metavar="FILE", help="write what left whole machines into this page, a table for each kernel")
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew; review their diff")


def pytest_configure(config: pytest.Config) -> None:
    # Started in the background, a shell has it ignored; what the tests start would inherit that, and never end by Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A version manager's `python3` is a script that looks for it, for longer than what the tests run by it takes.
    own = f"{sys.base_prefix}/bin"
    if Path(shutil.which("python3") or own).parent != Path(own):
        os.environ["PATH"] = f"{own}:{os.environ['PATH']}"
    # What wireguard-go's threads spend on waking each other is half of what a test's few packets take.
    os.environ.setdefault("GOMAXPROCS", "1")
    Sandbox.forks = not THOROUGHLY
    target = config.getoption("--scenarios")
    # Under xdist the workers hand their reports to the controller, which alone writes.
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ScenarioReport(Path(target)), "scenario-report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        numbers = sorted({number for marker in item.iter_markers("scenario") for number in marker.args})
        if numbers:
            item.user_properties.append(("scenarios", numbers))


@pytest.fixture
def sandbox():
    """A private network and mount namespace in which /etc and /run may be written; gone when the test ends."""
    needs_root_and("nft", "wg", "ip", "unshare", "nsenter")
    with Sandbox() as private:
        yield private

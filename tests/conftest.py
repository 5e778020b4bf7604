"""What every test shares: the options, the scenario report, the sandbox."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from amount import THOROUGHLY
from needed import needs_root_and
from sandbox import Sandbox
from scenario_report import ScenarioReport

_TESTS = Path(__file__).parent
# Folders with the longest tests, the longest first: machines that boot, laboratories that are drilled.
_LONG = ("boot", "guide", "fleet", "lab", "allowances", "verify", "templates", "arming", "monitor", "tunnels")

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = _dealt(items, workers)
    for item in items:
        numbers = sorted({number for marker in item.iter_markers("scenario") for number in marker.args})
        if numbers:
            item.user_properties.append(("scenarios", numbers))


def _dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests so that each worker, which begins with one part of them, has as many long ones, and those first.

    What is left to steal at the end is short then: nobody waits for the last machine's day.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for each in items:
        files.setdefault(each.path, []).append(each)
    long = sorted(
        (path for path in files if path.relative_to(_TESTS).parts[0] in _LONG), key=lambda path: (_weight(path), str(path))
    )
    of_long = [[one for path in long[at::workers] for one in files[path]] for at in range(workers)]
    short = iter(one for path, ones in files.items() if path not in long for one in ones)
    part = -(-len(items) // workers)
    return [*(one for ones in of_long for one in (*ones, *islice(short, max(part - len(ones), 0)))), *short]


def _weight(path: Path) -> int:
    return _LONG.index(path.relative_to(_TESTS).parts[0])


@pytest.fixture
def sandbox():
    """A private network and mount namespace in which /etc and /run may be written; gone when the test ends."""
    needs_root_and("nft", "wg", "ip", "unshare", "nsenter")
    with Sandbox() as private:
        yield private

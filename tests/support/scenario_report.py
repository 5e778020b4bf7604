"""Joins a test run with the catalogue: which scenario is held, by which test, or why not yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogue import NOT_YET, SCENARIOS

_HEAD = """\
# The scenarios

Written by `make scenarios` from a run of the tests; do not edit. Where: N plain network namespaces, G namespaces and a real
WireGuard, V wholly or partly a machine. *Held* means that in that run every test named passed: no packet out with the lock, and the
same attack seen to leak without it.

"""


class ScenarioReport:
    """A pytest plugin: collects outcomes by scenario number, and writes the page at the end."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._outcomes: dict[int, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst outcome of each test's phases."""
        properties = dict(report.user_properties)
        for number in properties.get("scenarios", ()):
            tests = self._outcomes.setdefault(number, {})
            worse = report.outcome != "passed" or report.nodeid not in tests
            if worse:
                reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
                tests[report.nodeid] = report.outcome + (f": {reason.removeprefix('Skipped: ')}" if reason else "")

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        rows = [self._row(number) for number in SCENARIOS]
        held = sum(1 for number in SCENARIOS if self._verdict(number) == "held")
        table = "\n".join(["| # | scenario | where | verdict | by |", "|---|---|---|---|---|", *rows])
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._target.write_text(f"{_HEAD}{held} of {len(SCENARIOS)} are held.\n\n{table}\n", encoding="utf-8")

    def _row(self, number: int) -> str:
        name, where = SCENARIOS[number]
        tests = self._outcomes.get(number, {})
        # A test's cases are one test here.
        names = sorted({nodeid.partition("[")[0].rpartition("/")[2] for nodeid in tests})
        by = ", ".join(f"`{name}`" for name in names)
        return f"| {number} | {name} | {where} | {self._verdict(number)} | {by} |"

    def _verdict(self, number: int) -> str:
        outcomes = set(self._outcomes.get(number, {}).values())
        if "failed" in outcomes:
            return "**not held**"
        skipped = sorted(each for each in outcomes if each.startswith("skipped"))
        if "passed" in outcomes:
            return "held" if number not in NOT_YET else f"in part; {NOT_YET[number]}"
        return skipped[0] if skipped else NOT_YET.get(number, "not yet: no test")

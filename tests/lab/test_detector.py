"""The detector itself: it fires, it sees the tunnel carry something, and nothing of the catalogue is left untested."""

import ast
from pathlib import Path

import pytest

from failshut.drill.network.rules import RuleSource
from failshut.drill.scenario import Kind
from failshut.drill.scenarios import SCENARIOS
from lab.drilling import ALL


@pytest.mark.lab
@pytest.mark.scenario(1, 2)
def test_the_detector_sees_a_leak_and_the_tunnels_cargo(drilling):
    """Without rules, a tunnel taken down leaks each of its flows: the capture and the judge see them."""
    control = drilling.run("guide-1", RuleSource.NONE)

    assert not control.reason
    assert control.leaked > 100
    assert any("198.18.0.53:53 udp" in each for each in control.leaks)
    assert control.allowed["transport"] > 0


def _tested() -> set[str]:
    """Return the scenarios that some test names, by `drills` or in a list."""
    names = set()
    for path in Path(__file__).parents[1].glob("*/test_*.py"):
        if path.parent.name in ("lab", "audits"):
            tree = ast.parse(path.read_text())
            names |= {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return names


def test_every_scenario_of_the_drill_has_a_test():
    """A scenario nobody runs proves nothing."""
    limits = {name for name, each in SCENARIOS.items() if each.limit}

    assert ALL.keys() - limits - _tested() == set()


def test_every_attack_has_a_control_or_says_why_not():
    """A detector that was not seen to fire proves nothing."""
    without = {name for name, each in SCENARIOS.items() if each.control is None and not each.because}
    attacks_without = {name for name, each in SCENARIOS.items() if each.kind is Kind.ATTACK and each.control is None}

    assert without == set()
    assert attacks_without == set()


def test_no_lab_test_sleeps():
    """Labs wait on conditions with a deadline."""
    root = Path(__file__).parents[2]
    sources = [*root.glob("tests/lab/*.py"), *root.glob("tests/audits/*.py"), *root.glob("src/failshut/drill/**/*.py")]
    word = "time." + "sleep"

    assert [str(each) for each in sources if word in each.read_text()] == []


def test_the_reference_names_every_scenario():
    """docs/reference/drill.md is complete, with the titles and numbers that the drill itself prints."""
    page = (Path(__file__).parents[2] / "docs/reference/drill.md").read_text()
    rows = {
        name: f"| `{name}` | {each.title} | {', '.join(str(number) for number in each.covers)} |"
        for name, each in SCENARIOS.items()
    }

    assert [name for name, row in rows.items() if row not in page] == []

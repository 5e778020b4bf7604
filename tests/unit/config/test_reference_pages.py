"""The reference pages and the tables in the code say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from failshut.config.declaration import Declaration
from failshut.config.policy_file import parse
from failshut.model.finding import Code

ROOT = Path(__file__).parents[3]
POLICY = (ROOT / "docs/reference/policy.md").read_text()
FINDINGS = (ROOT / "docs/reference/findings.md").read_text()


def test_every_finding_code_is_explained_once():
    """A user searches for the code that was printed."""
    assert sorted(re.findall(r"^\| ([PTHRS]\d{3}) \|", FINDINGS, re.MULTILINE)) == sorted(Code)


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", POLICY, re.DOTALL))
def test_every_example_of_the_page_is_a_policy(text):
    """Copied from the page, it works."""
    read = parse(text, "p.toml")

    assert isinstance(read, Declaration)
    assert read.findings == ()


def test_the_page_s_example_is_the_bundled_one():
    """`make drill` rehearses what the page shows."""
    shown = [tomllib.loads(each) for each in re.findall(r"```toml\n(.*?)```", POLICY, re.DOTALL)]

    assert tomllib.loads((ROOT / "src/failshut/examples/example.toml").read_text()) in shown

"""docs/security.md names every rule that the compiler can write, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs/security.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.*?) ?\|$", TEXT.split("## By rule\n")[1].split("\n## ")[0], re.MULTILINE)[1:]
# Of these the policy gives the second half.
_NAMED = ("transport", "inbound", "outbound")


def written_in_the_compiler() -> set[str]:
    """Return the comments that stand in the compiler's source; a name that the policy gives is NAME."""
    found = set()
    for path in (REPOSITORY / "src/failshut/lower").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "rule" and call.args):
                continue
            match call.args[0]:
                case ast.Constant(value=str(comment)):
                    found.add(comment)
                case ast.JoinedStr(values=[ast.Constant(value=str(head)), *_]) if head.rstrip(":") in _NAMED:
                    found.add(f"{head}NAME")
    return found


def written_in_the_golden_locks() -> set[str]:
    """Return the comments of every golden lock, as far as they are no name's: what the source gives by a variable is among them."""
    texts = (path.read_text() for path in (REPOSITORY / "tests/golden").glob("*/expect.*"))
    comments = {each for text in texts for each in re.findall(r'comment "([^"]+)"', text)}
    return {each for each in comments if each.partition(":")[0] not in _NAMED}


def test_every_comment_that_the_compiler_can_write_is_a_row():
    documented = {each for row in ROWS for each in re.findall(r"`([^`]+)`", row[0])}
    written = written_in_the_compiler() | written_in_the_golden_locks()

    assert len(written) > 40
    assert written - documented == set(), "docs/security.md lacks them"
    assert documented - written == set(), "the compiler writes no such rule"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split("`")[1])
def test_every_rule_is_held_by_tests_that_exist(row):
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", f"{row[2]} {row[3]}")
    assert named
    for file, test in named:
        (path,) = (REPOSITORY / "tests").glob(f"**/{file}")
        assert not test or f"def {test}(" in path.read_text(), f"{file} has no {test}"

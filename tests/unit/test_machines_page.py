"""The page of whole machines is written by the run that saw them, kernel by kernel."""

from __future__ import annotations

import pytest

from vm.measured import Chapter, Measured, write

PAGE = """\
before
<!-- trixie -->
yesterday's
<!-- end of trixie -->
between
<!-- bookworm -->
another kernel's
<!-- end of bookworm -->
after
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_a_run_writes_the_table_of_its_kernel_and_leaves_the_others(page):
    measured = Measured("trixie", "6.12.1")
    chapter = measured.chapter("cold boot")
    chapter.frames, chapter.leaked, chapter.control = 1234, 0, "udp 5"

    write(page, measured)

    assert "| cold boot | 0 of 1,234 | udp 5 |" in page.read_text()
    assert "yesterday" not in page.read_text()
    assert page.read_text().endswith(PAGE[PAGE.index("between") :])


def test_a_leak_is_in_bold_and_what_was_not_seen_is_said():
    assert Chapter("reset", 10, 3).row == "| reset | **3** of 10 | not seen |"
    assert Chapter("reset", control="udp 5").row == "| reset | not seen | udp 5 |"

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


def seen(name: str, kernel: str = "6.12.1") -> Measured:
    measured = Measured("trixie", kernel)
    measured.chapter(name).note_lock(1234, 0)
    return measured


def test_a_run_writes_the_table_of_its_kernel_and_leaves_the_others(page):
    measured = seen("cold boot")
    measured.chapter("cold boot").control = "udp 5"

    write(page, measured)

    assert "| cold boot | 0 of 1,234 | udp 5 |" in page.read_text()
    assert "yesterday" not in page.read_text()
    assert page.read_text().endswith(PAGE[PAGE.index("between") :])


def test_what_another_test_saw_of_the_same_kernel_stays(page):
    control = Measured("trixie", "6.12.1")
    control.chapter("reset").control = "udp 5"

    write(page, seen("reset"))
    write(page, control)
    write(page, seen("cold boot"))

    assert "| reset | 0 of 1,234 | udp 5 |\n| cold boot | 0 of 1,234 | not seen |" in page.read_text()


def test_what_was_seen_of_an_older_kernel_goes(page):
    write(page, seen("reset"))
    write(page, seen("cold boot", "6.12.2"))

    assert "reset" not in page.read_text()


def test_a_leak_is_in_bold():
    chapter = Chapter()
    chapter.note_lock(10, 3, "a known limit")

    assert chapter.locked == "**3** of 10: a known limit"

"""DNS on the wire: a question, byte by byte."""

from __future__ import annotations

import pytest

from failshut.emit.dns import NS, ROOT, A, question


def test_a_question_is_rfc_1035s():
    """One question for one name, with recursion."""
    assert question(7, "a.example", A) == b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\7example\0\0\1\0\1"
    assert question(7, ROOT, NS) == b"\0\7\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_a_name_that_dns_cannot_say_is_refused(name):
    with pytest.raises(ValueError):
        question(7, name, A)

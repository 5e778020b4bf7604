"""The places of keys and values in a TOML text."""

from __future__ import annotations

import tomllib

import pytest

from failshut.config.locate import Span, locate

TEXT = '''\
a = 1
[tunnel.wg0]
 endpoints = ["x", # a comment with ]
   'y', """z
q"""]
fw.mark = 0xca6c # behind it
"quo\\u0041ted" = {a = 1, b.c = [ {d = 2}, ]}
[[allow.inbound]]
name = "a"
[[allow.inbound]]
name = "b"
when = 1979-05-27 07:32:00
[allow.inbound.sub]
x = 'it = "not" # this'
'''

PLACES = {
    ("a",): (Span(1, 1, 1), Span(1, 5, 1)),
    ("tunnel", "wg0"): (Span(2, 9, 3), Span(2, 9, 3)),
    ("tunnel", "wg0", "endpoints"): (Span(3, 2, 9), Span(3, 14, 24)),
    ("tunnel", "wg0", "endpoints", 0): (Span(3, 15, 3), Span(3, 15, 3)),
    ("tunnel", "wg0", "endpoints", 1): (Span(4, 4, 3), Span(4, 4, 3)),
    ("tunnel", "wg0", "fw", "mark"): (Span(6, 4, 4), Span(6, 11, 6)),
    ("tunnel", "wg0", "quoAted"): (Span(7, 1, 14), Span(7, 18, 27)),
    ("tunnel", "wg0", "quoAted", "b", "c", 0, "d"): (Span(7, 35, 1), Span(7, 39, 1)),
    ("allow", "inbound", 0, "name"): (Span(9, 1, 4), Span(9, 8, 3)),
    ("allow", "inbound", 1): (Span(10, 9, 7), Span(10, 9, 7)),
    ("allow", "inbound", 1, "when"): (Span(12, 1, 4), Span(12, 8, 19)),
    ("allow", "inbound", 1, "sub", "x"): (Span(14, 1, 1), Span(14, 5, 19)),
}


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_each_key_and_value_is_found_where_it_was_written(path):
    """Line, column and length point at the key and at the value, in every way TOML has to write one."""
    spot = locate(TEXT)[path]

    assert PLACES[path] == (spot.key, spot.value)


def test_the_text_of_these_tests_is_toml():
    """The locator is only ever used on what tomllib accepts."""
    assert tomllib.loads(TEXT)["tunnel"]["wg0"]["quoAted"]["b"]["c"] == [{"d": 2}]


def test_a_value_over_several_lines_ends_at_its_first():
    """A caret line stays one line."""
    spot = locate('a = """one\ntwo"""\n')[("a",)]

    assert spot.value == Span(1, 5, 6)


def test_deep_nesting_gives_up_quietly():
    """Places are a courtesy: a text that is too deep for the walk has none, and no exception."""
    assert isinstance(locate("a = " + "[" * 5000 + "]" * 5000), dict)

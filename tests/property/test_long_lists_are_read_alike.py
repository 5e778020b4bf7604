"""A long list of addresses is read by its text, once; a short one word by word: both mean the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from failshut.model.ruleset import AnySet
from failshut.read.nft_text import read_text, values

_BYTE = st.integers(0, 255)
_ADDRESS = st.tuples(_BYTE, _BYTE, _BYTE, _BYTE).map(lambda parts: ".".join(map(str, parts)))
_PREFIX = st.tuples(_ADDRESS, st.integers(0, 34)).map(lambda parts: f"{parts[0]}/{parts[1]}")
_RANGE = st.tuples(_ADDRESS, _ADDRESS).map("-".join)
# What nft refuses or takes otherwise stands among them: a name, two words, a set within the set, an address of the other family.
_ODD = st.sampled_from(
    ["example.org", "1.2.3.4 5.6.7.8", "{ 9.9.9.9, 8.8.8.8 }", "fd00::1", "*", "1.2.3.4 timeout 5s", "7", "256.1.1.1", "", '"x"']
)
_LIST = st.lists(st.one_of(_ADDRESS, _PREFIX, _RANGE), min_size=2, max_size=12)
_SEPARATOR = st.sampled_from([", ", ",", ",\n\t\t\t     ", "\n", " , "])


@given(_LIST, st.lists(_ODD, max_size=1), st.data())
def test_a_list_means_the_same_however_long_it_is(listed, odd, data):
    words = data.draw(st.permutations([*listed, *odd]))
    text = words[0] + "".join(data.draw(_SEPARATOR) + word for word in words[1:])
    rule = f"table ip t {{\n\tchain c {{\n\t\tip daddr {{ {text} }} drop\n\t}}\n}}\n"
    found = []
    for long in (1, 1 << 30):
        was, values.LONG = values.LONG, long
        try:
            found.append(read_text(rule, "test"))
        finally:
            values.LONG = was
    assert found[0] == found[1]


def test_a_long_list_is_indeed_read_by_its_text(monkeypatch):
    monkeypatch.setattr(values, "elements", None)
    listed = ", ".join(f"10.0.{number}.0/24" for number in range(0, 200, 2))
    read = read_text(f"table ip t {{\n\tchain c {{\n\t\tip daddr {{ {listed} }} drop\n\t}}\n}}\n", "test")
    right = read.ruleset.tables[0].chains[0].rules[0].statements[0].right
    assert isinstance(right, AnySet)
    assert len(right.elements) == 100

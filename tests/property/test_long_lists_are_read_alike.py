"""A long list of addresses is read by its text, once; a short one word by word: both mean the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from failshut.model.ruleset import AnySet
from failshut.read.nft.text import read_text, values

_BYTE = st.integers(0, 255)
_ADDRESS = st.tuples(_BYTE, _BYTE, _BYTE, _BYTE).map(lambda parts: ".".join(map(str, parts)))
_PREFIX = st.tuples(_ADDRESS, st.integers(0, 34)).map(lambda parts: f"{parts[0]}/{parts[1]}")
_RANGE = st.tuples(_ADDRESS, _ADDRESS).map("-".join)
# What nft refuses or takes otherwise stands among them: a name, two words, a set within the set, an address of the other family.
_ODD = st.sampled_from(
    ["example.org", "1.2.3.4 5.6.7.8", "{ 9.9.9.9, 8.8.8.8 }", "fd00::1", "*", "1.2.3.4 timeout 5s", "7", "256.1.1.1", "", '"x"']
)
_LIST = st.lists(st.one_of(_ADDRESS, _PREFIX, _RANGE), min_size=1, max_size=4)
# So long that nft's own way to write it makes one token of it.
_LONG = 64


@given(_LIST, st.lists(_ODD, max_size=1), st.sampled_from(["ip daddr", "ip6 saddr", "ether saddr", "ip saddr . ip daddr"]))
def test_a_list_means_the_same_however_it_is_written(listed, odd, field):
    words = [*listed, *odd] * _LONG
    assert _read(field, ", ".join(words)) == _read(field, ",\n\t\t\t     ".join(words))


def _read(field, listed):
    """Return what is read, without the columns."""
    read = read_text(f"table inet t {{\n\tchain c {{\n\t\t{field} {{ {listed} }} drop\n\t}}\n}}\n", "test")
    return read.ruleset, {each.message for each in read.findings}, {(each.text, each.assumed) for each in read.approximations}


def test_a_long_list_is_indeed_read_by_its_text(monkeypatch):
    monkeypatch.setattr(values, "elements", None)
    listed = ", ".join(f"10.0.{number}.0/24" for number in range(0, 200, 2))
    read = read_text(f"table ip t {{\n\tchain c {{\n\t\tip daddr {{ {listed} }} drop\n\t}}\n}}\n", "test")
    right = read.ruleset.tables[0].chains[0].rules[0].statements[0].right
    assert isinstance(right, AnySet)
    assert len(right.elements) == 100

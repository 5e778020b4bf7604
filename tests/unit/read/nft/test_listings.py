"""Listings: what is not understood is kept as unknown, and the text says what JSON hides."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.model.ruleset import Unknown
from failshut.read.nft.json import read_json
from failshut.read.nft.text import read_text


def listing(*rules, **table):
    head = [{"metainfo": {}}, {"table": {"family": "inet", "name": "t", **table}}, {"chain": chain()}]
    return json.dumps(
        {"nftables": [*head, *({"rule": {"family": "inet", "table": "t", "chain": "c", "expr": each}} for each in rules)]}
    )


def chain():
    return {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "output", "prio": 0, "policy": "accept"}


@pytest.mark.parametrize(
    "statement",
    [
        {"xdp": {"type": "match", "name": "owner"}},
        {"match": {"op": "==", "left": {"exthdr": {"name": "frag", "field": "none", "offset": 3}}, "right": 1}},
        {"match": {"op": "~", "left": {"payload": {"base": "th", "offset": 0, "len": 8}}, "right": 1}},
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "nothing"}}, "right": 1}},
        {"mangle": {"key": {"numgen": {"mode": "inc", "mod": 2}}, "value": 1}},
        {"limit": {"rate": "often", "per": "second"}},
        {"log": {"queue-threshold": 3, "colour": "red"}},
        {"snat": {"addr": "192.0.2.1", "weather": "fine"}},
    ],
)
def test_a_statement_outside_the_model_is_kept_as_unknown(statement):
    """It can then be neither written nor taken for equal to a compiled rule."""
    rule = read_json(listing([statement]), "nft -j").ruleset.tables[0].chains[0].rules[0]

    assert rule.statements == (Unknown(json.dumps(statement, sort_keys=True)),)


def test_a_dormant_table_is_seen_in_the_text_though_json_hides_it():
    """nft 1.0.6's JSON prints the release's name for the flag; the kernel's rules are read from the text."""
    lying = listing(flags="Lester Gooch #5")
    text = "table inet t {\n\tflags dormant\n\n\tchain c {\n\t\ttype filter hook output priority filter; policy accept;\n\t}\n}\n"

    assert read_text(text, "nft list").ruleset.tables[0].flags == {"dormant"}
    assert any("switched off" in each.message for each in read_json(lying, "nft -j").findings)


@given(st.text())
def test_arbitrary_text_is_a_ruleset_or_a_finding(text):
    """The reader never raises."""
    assert read_json(text, "nft -j").findings or text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_arbitrary_statement_is_read_or_unknown(statement):
    """Whatever a future nft prints, reading does not fail."""
    assert len(read_json(listing([statement]), "nft -j").ruleset.tables[0].chains[0].rules[0].statements) == 1

"""A prefix that is found by its text is what `ipaddress` makes of it, whatever it is asked; what that refuses is refused alike."""

from __future__ import annotations

import copy
import re
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from failshut.model.units import bounds, prefix_of

_OCTET = st.one_of(st.integers(0, 256).map(str), st.sampled_from(["00", "01", "+1", " 1", "1_0", "\u0661", "", "1e1"]))
_ADDRESS = st.lists(_OCTET, min_size=3, max_size=5).map(".".join)
_LENGTH = st.one_of(st.integers(0, 33).map(str), st.sampled_from(["", "08", "-1", " 8", "\u0668", "255.255.0.0", "8/8"]))
_NEAR = st.tuples(_ADDRESS, st.sampled_from(["/", ""]), _LENGTH).map("".join)
_SOUND = st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 32)).map(lambda both: str(IPv4Network(both, strict=False)))
_SIX = st.tuples(st.integers(0, (1 << 128) - 1), st.integers(0, 128)).map(lambda both: str(IPv6Network(both, strict=False)))


@given(st.one_of(_SOUND, _NEAR, _SIX, st.text(max_size=20)))
@example("0.0.0.0/0")
@example("255.255.255.255/32")
@example("10.0.0.1/8")
def test_a_prefix_is_what_ipaddress_makes_of_its_text(text):
    try:
        plain = ip_network(text)
    except ValueError as error:
        with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
            prefix_of(text)
        return
    known = prefix_of(text)
    assert known == plain
    assert (str(known), repr(known), hash(known)) == (str(plain), repr(plain), hash(plain))
    assert (known.version, known.prefixlen, known.max_prefixlen) == (plain.version, plain.prefixlen, plain.max_prefixlen)
    assert bounds(known) == bounds(plain) == (int(plain.network_address), int(plain.broadcast_address))
    assert {known: 1}[plain] == 1
    assert copy.deepcopy(known) == plain
    assert prefix_of(text) is known


@given(_SOUND, _SOUND)
def test_prefixes_compare_as_they_do_without_being_known(one, other):
    known, plain = (prefix_of(one), prefix_of(other)), (ip_network(one), ip_network(other))
    assert (known[0] == known[1]) is (plain[0] == plain[1])
    assert (known[0] < known[1]) is (plain[0] < plain[1])
    assert known[0].overlaps(known[1]) is plain[0].overlaps(plain[1])
    assert known[0].subnet_of(known[1]) is plain[0].subnet_of(plain[1])
    assert known[0].supernet() == plain[0].supernet()
    assert list(collapse_addresses(known)) == list(collapse_addresses(plain))

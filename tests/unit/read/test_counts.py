"""What the lock counted, as nft lists it."""

from __future__ import annotations

import json

import pytest

from failshut.read.counts import Blocked, counts


def listing(elements: int, size: int) -> str:
    body = [
        {"elem": {"val": {"concat": [f"198.51.100.{n}", 17, 53, 1000]}, "counter": {"packets": n + 1, "bytes": 40}}}
        for n in range(elements)
    ]
    counter = {"counter": {"family": "inet", "name": "blocked", "packets": 12, "bytes": 480}}
    return json.dumps({"nftables": [counter, {"set": {"name": "blocked4", "size": size, "elem": body}}]})


def test_the_largest_comes_first():
    found = counts((listing(3, 4096),))
    assert found.local == 12
    assert found.blocked[0] == Blocked("198.51.100.2", "udp", 53, 1000, 3)


@pytest.mark.parametrize(("elements", "is_full"), [(0, False), (3, False), (4, True)])
def test_a_list_without_room_says_so(elements, is_full):
    assert counts((listing(elements, 4),)).is_full is is_full

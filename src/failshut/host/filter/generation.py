"""The kernel's count of the packet filter's transactions: what is listed while it stands still is of one moment.

nft asks for tables, chains, sets and rules one after the other, and what it says of a table that is being loaded may lack
some rules, or have some chains' old ones beside others' new ones (nft 1.0.6: one listing of 100).

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from failshut.host.network.netlink import NETLINK_NETFILTER, ask, attributes, open_netlink

_GET_GENERATION = 10 << 8 | 16
_ID = 1
_NFGEN = bytes(4)
# How often to ask again at most while others go on changing the rules.
_TIMES = 10

Answer = TypeVar("Answer")


def generation() -> int | None:
    """Return the number of the last transaction in this network namespace; None where the kernel may not be asked."""
    try:
        with open_netlink(NETLINK_NETFILTER) as channel:
            answer = next(ask(channel, _GET_GENERATION, 0, _NFGEN), b"")
    except OSError:
        return None
    number = attributes(answer[len(_NFGEN) :]).get(_ID)
    return int.from_bytes(number, "big") if number else None


def of_one_moment(question: Callable[[], Answer]) -> Answer:
    """Return what `question` is answered with no transaction between its beginning and its end."""
    for _ in range(_TIMES):
        before = generation()
        answer = question()
        if before is None or generation() == before:
            break
    return answer

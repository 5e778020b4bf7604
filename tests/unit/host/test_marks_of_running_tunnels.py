"""Which mark a tunnel gets that neither the policy nor its config gives one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from failshut.host.network.probe import given_marks
from failshut.model.host import LiveTunnel, WireGuardKind
from failshut.model.policy import Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Mark, Port

ENDPOINT = Endpoint(ip_address("203.0.113.10"), Port(51820))


@pytest.mark.parametrize(
    ("said", "running", "given"),
    [
        ((None,), (None,), (51820,)),
        ((None,), (51999,), (51999,)),
        ((None, None), (None, None), (51820, 51821)),
        # As wg-quick leaves them that is run twice at once.
        ((None, None), (51820, 51820), (51820, 51821)),
        # The second came up alone, and took the first number.
        ((None, None), (None, 51820), (51821, 51820)),
        ((None, None), (51821, None), (51821, 51822)),
        ((51820, None), (51820, 51820), (None, 51821)),
        ((None, 51821), (51821, None), (51820, None)),
    ],
)
def test_no_two_tunnels_are_given_one_mark(said, running, given):
    names = [InterfaceName(f"wg{number}") for number in range(len(said))]
    # What the policy counts for them, which knows what is said and not what runs.
    free = iter([number for number in (51820, 51821) if number not in said])
    tunnels = [
        Tunnel(name, (ENDPOINT,), fwmark=Mark(mark)) if mark else Tunnel(name, (ENDPOINT,), default_mark=Mark(next(free)))
        for name, mark in zip(names, said, strict=True)
    ]
    live = {
        name: LiveTunnel(WireGuardKind.KERNEL, None if mark is None else Mark(mark))
        for name, mark in zip(names, running, strict=True)
    }

    found = given_marks(Policy(tuple(tunnels)), live)

    assert [found.get(name) for name in names] == list(given)

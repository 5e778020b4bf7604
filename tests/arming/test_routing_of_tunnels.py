"""Several tunnels, a tunnel inside a tunnel, and prefixes outside: the compiled routing under the real wg-quick."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest

from failshut.model.policy import Outside, Policy
from needed import needs_root_and
from two_tunnels import BESIDE, FAR, HOP, OUTER, ROUTING, SECOND, TwoTunnels

pytestmark = pytest.mark.lab


@pytest.fixture
def machine():
    """Two tunnels that are up; no routing of ours."""
    needs_root_and("wg", "wg-quick", "ip", "unshare", "nsenter")
    with TwoTunnels() as both:
        yield both


def test_a_double_hop_takes_both_hops_whichever_tunnel_was_restarted(machine):
    """A program's packet goes into the inner tunnel, the inner's own into the outer, the outer's own onto the underlay.

    With stock rules the tunnel that came last takes everything: after a restart of the outer one, programs use a single hop.
    """
    machine.cycle("wg0")
    assert machine.way(FAR) == "wg0", "the control: stock rules, and one hop"

    machine.put(Policy((HOP, OUTER)))
    assert machine.hops() == ("wg2", "wg0", "eth0")
    assert machine.connects(SECOND)

    machine.cycle("wg0")
    assert machine.hops() == ("wg2", "wg0", "eth0")
    machine.cycle("wg2")
    machine.route("keep", ROUTING)
    assert machine.hops() == ("wg2", "wg0", "eth0")
    machine.cycle("wg0")
    machine.cycle("wg2")
    machine.route("keep", ROUTING)
    assert machine.hops() == ("wg2", "wg0", "eth0")
    assert machine.connects(SECOND)


def test_two_tunnels_with_a_default_route_come_up_one_after_the_other(machine):
    """Both bring a rule that is alike, at our preference: the control shows the second refused, as it would be at every boot."""
    machine.put(Policy((HOP, OUTER)))
    machine.must("wg-quick", "down", "wg2")
    machine.must("wg-quick", "down", "wg0")
    machine.must("wg-quick", "up", "wg0")
    refused = machine.run("wg-quick", "up", "wg2")
    assert "File exists" in refused.stderr, "the control"
    machine.cycle("wg0")

    machine.route("turn", "wg-quick@wg2.service")
    machine.must("wg-quick", "up", "wg2")

    machine.route("keep", ROUTING)
    assert machine.hops() == ("wg2", "wg0", "eth0")
    assert machine.connects(SECOND)


@pytest.mark.parametrize("words", [("turn", "wg-quick@wg0.service"), ("keep", ROUTING)], ids=["its unit", "a device that comes"])
def test_a_tunnel_comes_again_that_ended_without_wg_quick(machine, words):
    """Its rules outlive it. The control: they keep the same rules from being added again, which without us they would not."""
    machine.must("wg-quick", "down", "wg2")
    machine.put(Policy((OUTER,)))
    machine.cycle("wg0")
    for said in ((), words):
        machine.must("ip", "link", "delete", "wg0")
        if said:
            machine.route(*said)
        done = machine.run("wg-quick", "up", "wg0")
        assert (done.returncode == 0) == bool(said), done.stderr
        assert ("File exists" in done.stderr) != bool(said)
        if not said:
            machine.must("wg-quick", "up", "wg0")

    assert machine.way(FAR) == "wg0"
    assert machine.carries()


def test_what_was_moved_stands_where_wg_quick_had_it_once_the_lock_is_off(machine):
    """The main table before the tunnel's, as without us; and wg-quick takes away all that it brought, moved or not."""
    machine.must("wg-quick", "down", "wg2")
    machine.cycle("wg0")
    stock = machine.must("ip", "rule", "show")
    machine.put(Policy((OUTER,)))
    machine.cycle("wg0")
    machine.route("turn", "wg-quick@wg0.service")
    assert "1:\tfrom all lookup main suppress_prefixlength 0" in machine.must("ip", "rule", "show")

    machine.must("sh", "/etc/failshut/route", "clear")

    def words(text: str) -> list[str]:
        return [line.split(":", 1)[1].strip() for line in text.splitlines()]

    assert words(machine.must("ip", "rule", "show")) == words(stock)
    machine.put(Policy((OUTER,)))
    machine.route("turn", "wg-quick@wg0.service")
    machine.must("wg-quick", "down", "wg0")
    left = machine.must("ip", "rule", "show")
    assert "lookup 51820" not in left
    assert "suppress_prefixlength 0" not in left


def test_nothing_takes_a_single_hop_while_the_inner_tunnel_is_down(machine):
    """The outer tunnel carries the inner one's packets and nothing else; programs are told at once that there is no way."""
    machine.put(Policy((HOP, OUTER)))
    machine.must("wg-quick", "down", "wg2")

    assert machine.way(FAR) == ""

    machine.route("clear")
    assert machine.way(FAR) == "wg0", "the control"


def test_a_route_by_the_outer_tunnel_draws_nothing_into_it(machine):
    """AllowedIPs that are less than everything become routes in the main table, over a device that programs may not use."""
    machine.must("ip", "route", "add", "198.51.100.0/24", "dev", "wg0")
    assert machine.way(FAR) == "wg0", "the control"

    machine.put(Policy((HOP, OUTER)))

    assert machine.way(FAR) == "wg2"


def test_of_two_tunnels_side_by_side_the_first_of_the_policy_takes_what_both_would(machine):
    """Whatever wg-quick last did; and each one's own packets leave by the underlay."""
    for order, first in (((OUTER, BESIDE), "wg0"), ((BESIDE, OUTER), "wg2")):
        machine.put(Policy(order))
        assert machine.hops() == (first, "eth0", "eth0")
        for tunnel in ("wg2", "wg0"):
            machine.cycle(tunnel)
            machine.route("apply", ROUTING)
            assert machine.hops() == (first, "eth0", "eth0")


def test_prefixes_outside_leave_by_the_underlay_with_its_address_and_survive_wg_quick(machine):
    """Every one of 100,000 prefixes has its way outside, what lies between them takes the tunnel; clearing leaves none."""
    many = tuple(ip_network((0x0B000000 + number * 512, 24)) for number in range(100_000))
    machine.must("wg-quick", "down", "wg2")
    assert machine.way("11.0.0.1") == "wg0", "the control: without the routes"
    begun = time.monotonic()

    machine.put(Policy((OUTER,), outside=Outside((*many, ip_network("2001:db8:7::/48")))))

    print(f"100,000 prefixes took {time.monotonic() - begun:.2f} s")  # noqa: T201 - a measure, not a claim
    for _ in range(2):
        assert [machine.way(each) for each in ("11.0.0.1", "11.0.1.1", str(many[-1][1]))] == ["eth0", "wg0", "eth0"]
        assert "src 192.168.50.2" in machine.must("ip", "route", "get", "11.0.0.1")
        assert (machine.way("2001:db8:7::1"), machine.way("2001:db8:8::1")) == ("eth0", "wg0")
        machine.cycle("wg0")
    machine.route("keep", ROUTING)
    machine.route("clear")
    assert machine.must("ip", "route", "show", "table", "all", "proto", "245") == ""
    assert machine.way("11.0.0.1") == "wg0"

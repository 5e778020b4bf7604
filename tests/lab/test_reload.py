"""Loading the rules again, well and badly."""

from amount import thorough
from lab.drilling import drills


@drills("rearm-flood")
def test_a_hundred_rearms_under_a_flood_leak_nothing(held):
    """As the drill runs it; the naive reload beside it leaks."""
    held("rearm-flood")


@thorough
@drills("rearm-flood-at-length")
def test_a_thousand_rearms_under_a_flood_leak_nothing(held):
    """At least a million packets are sent meanwhile."""
    outcome = held("rearm-flood-at-length")

    assert outcome.lock.sent >= 1_000_000
    assert "1000 loads" in outcome.lock.notes[0]


@drills("failed-loads")
def test_a_failed_load_leaks_nothing(held):
    """Cut off at every twentieth, and with errors."""
    held("failed-loads")


@drills("rearm-and-tunnel")
def test_rearming_while_the_tunnel_moves_leaks_nothing(held):
    """In every order of the two."""
    held("rearm-and-tunnel")


@drills("policy-changes")
def test_a_changed_policy_leaks_nothing_that_neither_allows(held):
    """Another server, no LAN, and back, under a flood."""
    held("policy-changes")

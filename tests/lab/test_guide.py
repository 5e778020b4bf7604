"""The guide's own tests, and what a dying tunnel takes with it."""

from lab.drilling import drills


@drills("guide-1")
def test_the_tunnel_taken_down_leaks_nothing(held):
    """wg-quick down under running programs (the guide's test 1)."""
    held("guide-1")


@drills("guide-2")
def test_a_killed_wireguard_process_leaks_nothing(held):
    """The process is killed and its link goes (the guide's test 2)."""
    held("guide-2")


@drills("guide-3")
def test_dns_with_the_tunnel_down_leaks_nothing(held):
    """Lookups at a public resolver, over UDP and TCP (the guide's test 3)."""
    held("guide-3")


@drills("broken-config")
def test_a_tunnel_that_fails_on_its_way_up_leaks_nothing(held):
    """wg-quick with a broken config: it is down, and stays down."""
    held("broken-config")

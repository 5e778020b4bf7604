"""Machines behind the machine."""

from lab.drilling import drills


@drills("container")
def test_a_container_leaks_nothing_with_the_tunnel_down(held):
    """With Docker's own accepts and masquerading."""
    held("container")


@drills("container-named-bridge")
def test_a_container_of_a_named_bridge_leaks_nothing_with_the_tunnel_down(held):
    """The choke point lets packets pass to that bridge, and nothing of its own onto the cable."""
    held("container-named-bridge")


@drills("works-bridge")
def test_a_container_and_the_machine_reach_each_other(held):
    """By both families, on a bridge that the policy names."""
    held("works-bridge")


@drills("container-flows")
def test_a_containers_flows_leak_nothing_when_the_rule_is_lost(held):
    """Running flows and new ones."""
    held("container-flows")


@drills("routed-client")
def test_a_routed_client_of_the_lan_leaks_nothing(held):
    """The machine is its gateway."""
    held("routed-client")


@drills("flow-table")
def test_offloaded_flows_leak_nothing(held):
    """A flow table forwards past the hooks."""
    held("flow-table")

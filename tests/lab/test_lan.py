"""What is allowed stays the LAN."""

from lab.drilling import drills


@drills("only-the-lan")
def test_private_addresses_are_not_the_lan(held):
    """Only the prefixes that the policy names are."""
    held("only-the-lan")


@drills("ndp-scope")
def test_neighbour_discovery_carries_nothing_off_the_link(held):
    """Its messages to public addresses, with data, with a low hop limit."""
    held("ndp-scope")


@drills("ndp-cargo")
def test_neighbour_discovery_carries_no_cargo_on_the_link(held):
    """1,300 bytes to all nodes, as root and as a user with CAP_NET_RAW alone."""
    held("ndp-cargo")


@drills("joined-groups")
def test_joined_groups_carry_nothing_out(held):
    """Any user may join; the kernel's reports of it are few and short, and IGMP says nothing."""
    held("joined-groups")


@drills("tunnel-source")
def test_the_lan_never_sees_the_tunnels_address(held):
    """Sockets bound to it, and forged packets: the source must belong to the device."""
    held("tunnel-source")

"""MLLVD-CR-24-03 (X41 for Mullvad, 2024): ARP discloses the tunnel's address.

1. A neighbour asks by ARP who has the tunnel's address.
2. Linux answers for any of its addresses on any interface (arp_ignore=0).
Pass: no reply.
"""

from lab.drilling import drills


@drills("tunnel-asked-for")
def test_arp_does_not_disclose_the_tunnels_address(held):
    """Nor does neighbour discovery."""
    held("tunnel-asked-for")

"""CVE-2023-36672, TunnelCrack LocalNet.

1. The network claims a public range as its local one, by DHCP or by router advertisement.
2. A client that exempts "the local network" sends those addresses in the clear.
Pass: only the prefixes that the policy names are local.
"""

from lab.drilling import drills


@drills("local-net")
def test_a_public_range_made_local_leaks_nothing(held):
    """On-link routes for public ranges, and a router that answers for them."""
    held("local-net")


@drills("rogue-ra")
def test_a_public_prefix_advertised_leaks_nothing(held):
    """By router advertisement."""
    held("rogue-ra")

"""CVE-2019-14899: inferring and hijacking tunnelled connections.

1. A neighbour sends SYN, SYN/ACK, UDP and echo requests for the tunnel's address over the cable.
2. A host that answers tells that the address is its own, and which connections it has.
Pass: no answer of any kind, without wg-quick's own guard.
"""

from lab.drilling import drills


@drills("tunnel-probed")
def test_the_tunnels_address_does_not_answer_on_the_underlay(held):
    """Not to the LAN, not to the Internet, both families."""
    held("tunnel-probed")

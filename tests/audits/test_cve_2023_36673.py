"""CVE-2023-36673, TunnelCrack ServerIP.

1. The attacker makes the server's name resolve to a site of interest, or runs it beside one.
2. A client that exempts the server's address sends everything for that address in the clear.
Pass: nothing but the tunnel's own transport reaches that address, whatever the port.
"""

from lab.drilling import drills


@drills("rogue-payload")
def test_no_program_reaches_the_server_in_the_clear(held):
    """Its own port, other ports, TCP, UDP, ICMP."""
    held("rogue-payload")

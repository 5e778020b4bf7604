"""CVE-2024-3661, TunnelVision.

1. A rogue DHCP server on the link hands out option 121: routes longer than the tunnel's /0.
2. The client's routing prefers them; traffic leaves by the underlay, the tunnel stays up and looks healthy.
Pass: no packet leaves, of flows that existed and of new ones.
"""

from lab.drilling import drills


@drills("dhcp-rogue-server")
def test_a_real_dhcp_servers_option_121_leaks_nothing(held):
    """dnsmasq hands it out, udhcpc takes it."""
    held("dhcp-rogue-server")

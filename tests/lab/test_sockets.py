"""Sockets that go past the routes."""

from lab.drilling import drills


@drills("bound-to-device")
def test_sockets_bound_to_the_device_leak_nothing(held):
    """SO_BINDTODEVICE: UDP, TCP, ping, STUN, BitTorrent, large datagrams."""
    held("bound-to-device")


@drills("per-packet")
def test_a_device_chosen_per_packet_leaks_nothing(held):
    """IP_PKTINFO and IP_UNICAST_IF, both families."""
    held("per-packet")


@drills("source-ports")
def test_a_source_port_opens_nothing(held):
    """Those of SSH, DHCP, WireGuard and of the policy's services."""
    held("source-ports")


@drills("raw-sockets")
def test_raw_sockets_leak_nothing(held):
    """Other protocols and forged sources, the tunnel's among them."""
    held("raw-sockets")


@drills("odd-headers")
def test_fragments_options_and_extension_headers_leak_nothing(held):
    """Lone, tiny and swapped fragments too; routing headers by way of a LAN host."""
    held("odd-headers")


@drills("names-on-the-link")
def test_the_link_is_not_asked_for_names(held):
    """mDNS, LLMNR, SSDP, NetBIOS, broadcasts, IGMP."""
    held("names-on-the-link")

"""Names are the first thing to leak."""

from lab.drilling import drills


@drills("dns-public")
def test_public_resolvers_are_never_asked_in_the_clear(held):
    """DNS, DoT and DoH, over UDP and TCP."""
    held("dns-public")


@drills("dns-lan")
def test_the_lans_resolver_is_never_asked(held):
    """Though the LAN is allowed: DNS, DoT, mDNS, LLMNR, by TCP, UDP, UDP-Lite, SCTP and DCCP."""
    held("dns-lan")


@drills("dns-link-local")
def test_a_link_local_resolver_is_never_asked(held):
    """As router advertisements announce them."""
    held("dns-link-local")

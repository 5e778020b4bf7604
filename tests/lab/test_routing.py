"""The routes are taken from under the tunnel."""

from lab.drilling import drills


@drills("rule-lost")
def test_a_lost_routing_rule_leaks_nothing(held):
    """Running and new flows, with wg0 still up."""
    held("rule-lost")


@drills("link-down")
def test_a_link_set_down_with_its_address_kept_leaks_nothing(held):
    """The tunnel's routes go, its addresses stay."""
    held("link-down")


@drills("address-elsewhere")
def test_a_tunnel_address_added_elsewhere_leaks_nothing(held):
    """Sockets bound to it find a way out again."""
    held("address-elsewhere")


@drills("dhcp-option-121")
def test_classless_routes_leak_no_old_and_no_new_flow(held):
    """Routes longer than the tunnel's /0."""
    held("dhcp-option-121")


@drills("icmp-redirect")
def test_an_icmp_redirect_leads_nothing_out(held):
    """The gateway sends the flows elsewhere."""
    held("icmp-redirect")


@drills("new-underlay")
def test_a_new_underlay_device_leaks_nothing(held):
    """A device that was not there at arming, with the best route."""
    held("new-underlay")


@drills("wrong-uplink")
def test_another_uplink_leaks_nothing(held):
    """The default route moves to the second device."""
    held("wrong-uplink")


@drills("cable-flaps")
def test_a_flapping_cable_leaks_nothing(held):
    """The cable goes and comes twenty times, the rules are lost on the way."""
    held("cable-flaps")


@drills("sysctls-flipped")
def test_sysctls_decide_nothing(held):
    """rp_filter, ip_forward, src_valid_mark and others are flipped."""
    held("sysctls-flipped")

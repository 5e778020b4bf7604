"""What must still work with the lock on, seen at the far side."""

from lab.drilling import drills


@drills("works-tunnel")
def test_the_tunnel_carries_both_families(held):
    """From the first handshake, large packets too."""
    held("works-tunnel")


@drills("works-transport6")
def test_the_tunnel_runs_over_ipv6(held):
    """With neighbour discovery from nothing."""
    held("works-transport6")


@drills("works-recovery")
def test_the_tunnel_recovers_after_a_lost_underlay(held):
    """After 12 s without a cable."""
    held("works-recovery")


@drills("works-blocked-endpoint")
def test_the_tunnel_comes_up_once_its_server_is_back(held):
    """Nothing but handshakes leaves meanwhile."""
    held("works-blocked-endpoint")


@drills("works-recreated")
def test_a_recreated_tunnel_works(held):
    """No rule remembers an interface's index."""
    held("works-recreated")


@drills("works-key-rotation")
def test_new_keys_and_forgotten_connections_work(held):
    """As after minutes of silence."""
    held("works-key-rotation")


@drills("works-loopback")
def test_loopback_works(held):
    """Both families, TCP and UDP."""
    held("works-loopback")


@drills("works-lan")
def test_the_lan_allowance_works(held):
    """With ARP and NDP from nothing."""
    held("works-lan")


@drills("works-outbound")
def test_the_pinned_exceptions_work(held):
    """Where the policy has any."""
    held("works-outbound")


@drills("works-inbound")
def test_inbound_ssh_works_on_and_off_the_link(held):
    """Answered by the interface it came in by, the tunnel holding the default route."""
    held("works-inbound")


@drills("works-sessions")
def test_sessions_opened_before_arming_survive(held):
    """Though the service is the first to speak; the tunnel coming up, and twenty re-arms."""
    held("works-sessions")


@drills("works-server-first")
def test_the_server_may_speak_first_after_a_silence(held):
    """The connection of the transport is forgotten: its packets come from the endpoint all the same."""
    held("works-server-first")


@drills("works-link-control")
def test_the_links_own_protocols_work(held):
    """EAPOL, spanning tree by a real bridge, link aggregation."""
    held("works-link-control")


@drills("works-inner-wireguard")
def test_another_wireguard_inside_the_tunnel_works(held):
    """Its transport is cargo."""
    held("works-inner-wireguard")


@drills("works-dhcp")
def test_a_dhcp_lease_and_its_renewal_work(held):
    """Real udhcpc and dnsmasq."""
    held("works-dhcp")

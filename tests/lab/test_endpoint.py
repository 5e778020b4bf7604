"""The server's address is no way out."""

from lab.drilling import drills


@drills("marked-elsewhere")
def test_the_tunnels_mark_opens_nothing_but_the_endpoint(held):
    """Nor does the lock's own stamp, even for root."""
    held("marked-elsewhere")


@drills("roaming")
def test_transport_to_a_wrong_port_stays_in(held):
    """WireGuard roams after a server that answers from another port."""
    held("roaming")


@drills("after-close")
def test_the_kernels_answers_to_the_server_stay_in(held):
    """ICMP errors after WireGuard's socket closed."""
    held("after-close")

"""Flows that outlive what they ran on."""

from lab.drilling import drills


@drills("clear-untracked")
def test_flows_opened_in_the_clear_stop_when_armed(held):
    """The kernel did not track them before."""
    held("clear-untracked")


@drills("clear-tracked")
def test_tracked_flows_opened_in_the_clear_stop_when_armed(held):
    """Established for conntrack means nothing to the lock."""
    held("clear-tracked")


@drills("socket-kinds")
def test_no_kind_of_udp_socket_leaks(held):
    """Connected, bound, unbound, never answered; IPv4 and IPv6."""
    held("socket-kinds")


@drills("kernel-answers")
def test_icmp_errors_and_resets_about_tunnelled_flows_stay_in(held):
    """The kernel's own answers leave as little as programs' packets."""
    held("kernel-answers")


@drills("conntrack-flushed")
def test_a_flushed_conntrack_leaks_nothing_and_stops_nothing(held):
    """The tunnel goes on, then the rule is lost."""
    held("conntrack-flushed")


@drills("not-tracked")
def test_a_foreign_notrack_rule_leaks_nothing_and_stops_nothing(held):
    """The lock must not need connection tracking for the tunnel."""
    held("not-tracked")


@drills("mid-stream")
def test_packets_from_the_middle_of_a_connection_leak_nothing(held):
    """nf_conntrack_tcp_loose picks nothing up."""
    held("mid-stream")


@drills("unsolicited")
def test_strangers_get_no_answer(held):
    """Not from open ports, not from closed ones, not by a reflected mark."""
    held("unsolicited")

"""Frames that no inet hook sees."""

from lab.drilling import drills


@drills("packet-sockets")
def test_packet_sockets_leak_nothing(held):
    """Raw, cooked, past the queueing discipline, disguised as DHCP."""
    held("packet-sockets")


@drills("odd-frames")
def test_frames_of_other_kinds_leak_nothing(held):
    """LLDP, PPPoE, VLAN tags, ARP that gives the tunnel away, ARP and link control with cargo."""
    held("odd-frames")


@drills("eapol-programs")
def test_no_program_speaks_for_the_supplicant(held):
    """EAPOL of a user with CAP_NET_RAW alone."""
    held("eapol-programs")


@drills("bridged-guest")
def test_a_bridged_guest_leaks_nothing(held):
    """A guest on a bridge with the cable."""
    held("bridged-guest")


@drills("macvlan")
def test_a_macvlan_child_leaks_nothing(held):
    """A container on a child of the device."""
    held("macvlan")


@drills("macvlan-marks")
def test_a_macvlan_childs_marks_open_nothing(held):
    """SO_MARK on UDP, raw and packet sockets of a container: the marks stay on the way down, and none is the stamp."""
    held("macvlan-marks")


@drills("guessed-stamp")
def test_a_guessed_stamp_opens_nothing(held):
    """The stamp is the machine's own: neither its known bit nor the tunnel's mark is it."""
    held("guessed-stamp")


@drills("link-control-cargo")
def test_link_controls_groups_carry_nothing_else(held):
    """IP and LLDP in frames to the groups of bridges and bonds, by a user with CAP_NET_RAW alone."""
    held("link-control-cargo")

"""Which endpoint is tried, which address is worth a handshake, and what a proof changes."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import dns.message
import dns.rrset
import pytest

from failshut.allowances.endpoints.ask import addresses_in
from failshut.allowances.endpoints.decide import (
    MOST_CANDIDATES,
    Candidate,
    candidates,
    endpoint_of,
    fallbacks,
    repinned,
    unfit,
    wake_addresses,
)
from failshut.allowances.endpoints.raising import hosts_text
from failshut.model.policy import Lan, Pin, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, NamedEndpoint, Port

NAME = "vpn.example.com"
A, B, C = (Endpoint(ip_address(f"203.0.113.{number}"), Port(51820)) for number in (10, 20, 30))
PIN = Pin(NAME, (A.address,), 7)
TUNNEL = Tunnel(InterfaceName("wg0"), (A,), addresses=(ip_interface("198.51.100.2/32"),), names=(NamedEndpoint(NAME, Port(51820)),))
POLICY = Policy((TUNNEL,), lan=Lan((ip_network("198.51.100.128/25"),)), pins=(PIN,))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("203.0.113.99", ""),
        ("2001:db8::99", ""),
        ("0.0.0.0", "no machine"),
        ("127.0.0.53", "no machine"),
        ("169.254.1.1", "no machine"),
        ("224.0.0.251", "no machine"),
        ("255.255.255.255", "no machine"),
        ("::", "no machine"),
        ("::1", "no machine"),
        ("::ffff:192.168.1.1", "no machine"),
        ("fe80::1", "no machine"),
        ("ff02::1", "no machine"),
        ("198.51.100.130", "LAN"),
        ("198.51.100.2", "own address"),
        ("192.168.1.1", "private"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
    ],
)
def test_what_can_not_be_a_server_on_the_internet_is_not_tried(address, why):
    """A lie about the LAN must not even send a handshake there."""
    found = unfit(ip_address(address), NAME, POLICY)

    assert (why in found) if why else found == ""


def test_a_server_in_a_private_network_may_move_within_it():
    """A company's own."""
    policy = Policy((TUNNEL,), pins=(Pin(NAME, (ip_address("10.1.0.1"),)),))

    assert unfit(ip_address("10.2.0.1"), NAME, policy) == ""
    assert unfit(ip_address("192.168.0.1"), NAME, policy) != ""


def test_the_running_endpoint_is_tried_first_and_then_the_others_in_turn():
    """Each once; not those that other peers use, and not one that is not pinned."""
    tunnel = Tunnel(InterfaceName("wg0"), (A, B, C))

    assert fallbacks(tunnel, B) == (B, C, A)
    assert fallbacks(tunnel, None) == (A, B, C)
    assert fallbacks(tunnel, Endpoint(ip_address("192.0.2.1"), Port(1))) == (A, B, C)
    assert fallbacks(tunnel, B, taken=(C,)) == (B, A)


def test_an_answer_with_a_thousand_addresses_costs_a_bounded_number_of_handshakes():
    """Each once, none that is pinned, none for a name that was not asked."""
    many = tuple(ip_address(f"203.0.113.{number}") for number in range(1, 200))
    found = candidates(TUNNEL, {NAME: many, "other.example.com": (B.address,)}, POLICY)

    assert len(found) == MOST_CANDIDATES
    assert A not in [each.endpoint for each in found]
    assert {each.host for each in found} == {NAME}


def test_a_proof_replaces_the_pin_but_for_what_the_same_answer_still_has():
    """The others of the answer are unproven."""
    other = Pin("other.example.com", (C.address,), 9)

    moved = repinned((PIN, other), Candidate(NAME, B), (B.address, C.address))
    joined = repinned((PIN,), Candidate(NAME, B), (B.address, A.address))

    assert moved == {NAME: Pin(NAME, (B.address,)), "other.example.com": other}
    assert joined[NAME].addresses == (B.address, A.address)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.10:51820", "203.0.113.10:51820"),
        ("[2001:db8::1]:51820", "[2001:db8::1]:51820"),
        ("[fe80::1%eth0]:51820", "None"),
        ("", "None"),
        ("(none)", "None"),
    ],
)
def test_an_endpoint_is_read_as_wg_prints_it(text, expected):
    """A scoped one can be no endpoint of the lock's."""
    assert str(endpoint_of(text)) == expected


def test_a_tunnel_is_woken_by_a_datagram_to_nobody():
    """An address for documents where the tunnel carries everything, else the first host behind it."""
    assert [str(each) for each in wake_addresses(["0.0.0.0/0", "::/0"])] == ["192.0.2.1", "2001:db8::1"]
    assert [str(each) for each in wake_addresses(["10.0.0.0/8", "10.9.0.1/32"])] == ["10.0.0.1", "10.9.0.1"]


def test_the_addresses_at_the_end_of_an_alias_are_the_answer():
    """Records of other names in the same answer are not."""
    response = dns.message.make_response(dns.message.make_query(NAME, "A"))
    response.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "CNAME", "real.example.com."))
    response.answer.append(dns.rrset.from_text("real.example.com.", 60, "IN", "A", "203.0.113.20"))
    response.answer.append(dns.rrset.from_text("evil.example.com.", 60, "IN", "A", "203.0.113.66"))

    assert list(addresses_in(dns.message.from_wire(response.to_wire()))) == [B.address]


def test_the_hosts_file_of_wg_quicks_own_keeps_the_users_lines():
    """The user's come first, and win."""
    assert hosts_text("127.0.0.1 localhost", (PIN,)) == f"127.0.0.1 localhost\n203.0.113.10 {NAME}\n"

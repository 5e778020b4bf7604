"""What verify adds to the drill's judge for a real machine: stacked devices, learnt connections, the verdict's sum."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_interface, ip_network

import pytest

from failshut.drill.attacker import craft
from failshut.drill.judgement.judge import Connection
from failshut.model.exits import Exit
from failshut.model.packet import TCP, UDP
from failshut.model.policy import Inbound, Lan, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Port, Protocol
from failshut.read.frame import decode
from failshut.verify.capture import Capture
from failshut.verify.ground import Ground, explain_here, joined, stacked
from failshut.verify.outcome import Outcome, Report, Verdict, worst
from failshut.verify.probes import Words, programs, whose

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
OWN, PRINTER, CALLER, FAR = (IPv4Address(each) for each in ("192.168.50.2", "192.168.50.9", "198.51.100.9", "198.51.100.77"))
POLICY = Policy(
    tunnels=(
        Tunnel(
            InterfaceName("wg0"), (Endpoint(IPv4Address("203.0.113.10"), Port(51820)),), addresses=(ip_interface("10.9.0.2/32"),)
        ),
    ),
    lan=Lan((ip_network("192.168.50.0/24"),)),
    inbound=(Inbound("ssh", Protocol.TCP, Port(22)), Inbound("dns", Protocol.UDP, Port(5300))),
)
# The machine's address is on a bridge over eth0, which carries a VLAN besides.
GROUND = Ground((), own={"br0": frozenset({OWN}), "eth0": frozenset()}, above={"eth0": ("br0",)})


def packet(source, target, ports, protocol=UDP, *, flags=craft.ACK, payload=b"payload", vlan=b"", ttl=64):
    body = craft.udp(source, target, ports, payload) if protocol == UDP else craft.tcp(source, target, ports, flags, payload)
    frame = craft.ethernet(A, B, 0x0800, craft.ipv4(source, target, protocol, body, ttl=ttl))
    return decode(frame[:12] + vlan + frame[12:])


def test_a_port_carries_what_its_bridge_may_send_and_nothing_else():
    """The same packet is seen at the bridge and at the port below it."""
    allowed = packet(OWN, PRINTER, (40000, 9100), ttl=1)
    leak = packet(OWN, FAR, (40000, 9100))

    assert [explain_here(allowed, device, POLICY, GROUND) for device in ("br0", "eth0", "eth1")] == ["lan", "lan", None]
    assert [explain_here(leak, device, POLICY, GROUND) for device in ("br0", "eth0", "eth1")] == [None, None, None]


def test_a_vlan_tag_is_explained_by_the_device_above_only():
    """Below a VLAN's device its packets have a tag; a tag on a device with nothing above it is a leak."""
    tagged = packet(OWN, PRINTER, (40000, 9100), vlan=b"\x81\x00\x00\x64", ttl=1)

    assert explain_here(tagged, "eth0", POLICY, GROUND) == "lan"
    assert explain_here(tagged, "br0", POLICY, GROUND) is None


def test_what_is_stacked_on_what_is_read_from_ip_link():
    """Bridge ports, bonds and VLANs, over several floors; a veth's peer is not above it."""
    links = [
        {"ifname": "eth0", "master": "bond0"},
        {"ifname": "bond0", "linkinfo": {"info_kind": "bond"}},
        {"ifname": "bond0.7", "link": "bond0", "master": "br7", "linkinfo": {"info_kind": "vlan"}},
        {"ifname": "br7", "linkinfo": {"info_kind": "bridge"}},
        {"ifname": "veth0", "link": "veth1", "linkinfo": {"info_kind": "veth"}},
    ]

    above = stacked(links)

    assert above["eth0"] == ("bond0", "bond0.7", "br7")
    assert above["bond0"] == ("bond0.7", "br7")
    assert "veth1" not in above


def test_a_supplicant_is_known_by_its_ethertype():
    """On a real machine nobody else knows what it sends; under a VLAN tag it is not its own."""
    eapol = craft.ethernet(B, A, 0x888E, bytes(46))

    assert explain_here(decode(eapol), "eth0", POLICY, GROUND) == "eapol"
    assert explain_here(decode(eapol[:12] + b"\x81\x00\x00\x64" + eapol[12:]), "eth1", POLICY, GROUND) is None


def test_addresses_of_before_still_count_after_a_lease_changed():
    """A packet that left before the change is judged by the address that the device had then."""
    later = Ground((), own={"br0": frozenset({IPv4Address("192.168.50.7")})})

    assert joined(GROUND, later).own["br0"] == {OWN, IPv4Address("192.168.50.7")}


@pytest.fixture
def capture():
    return Capture([], lambda *_: None, frozenset({(TCP, 22), (UDP, 5300)}))


SSH = Connection(TCP, OWN, 22, CALLER, 50000, "eth0")


def test_a_connection_from_outside_is_learnt_and_its_replies_are_explained(capture):
    """Also one that began before the capture: its first packet seen may be ours, but it is no opening one."""
    capture._learn(packet(OWN, CALLER, (22, 50000), TCP), "eth0", came_in=False)
    capture._learn(packet(CALLER, OWN, (50000, 22), TCP), "eth0", came_in=True)

    assert capture.connections == {SSH}
    reply = packet(OWN, CALLER, (22, 50000), TCP)
    ground = replace(GROUND, above={})
    assert explain_here(reply, "eth0", POLICY, ground, capture.connections) == "inbound:ssh"
    assert explain_here(reply, "eth1", POLICY, ground, capture.connections) is None


def test_a_connection_that_we_opened_from_a_services_port_is_no_service(capture):
    """The answer to our own SYN must not turn the rest of it into a reply, in whatever order they are seen."""
    capture._learn(packet(CALLER, OWN, (50000, 22), TCP), "eth0", came_in=True)
    capture._learn(packet(OWN, CALLER, (22, 50000), TCP, flags=craft.SYN), "eth0", came_in=False)
    capture._learn(packet(CALLER, OWN, (50000, 22), TCP), "eth0", came_in=True)

    assert capture.connections == frozenset()


def test_a_datagram_that_we_sent_first_opens_no_service(capture):
    """UDP has no opening: who spoke first decides."""
    capture._learn(packet(OWN, CALLER, (5300, 9)), "eth0", came_in=False)
    capture._learn(packet(CALLER, OWN, (9, 5300)), "eth0", came_in=True)
    capture._learn(packet(PRINTER, OWN, (9, 5300)), "eth0", came_in=True)

    assert capture.connections == {Connection(UDP, OWN, 5300, PRINTER, 9, "eth0")}


def test_a_probe_is_known_by_its_words():
    """Another program's packet to the same place is not called ours."""
    stream, syn = programs(Words(), {4: FAR})

    assert whose(packet(OWN, FAR, (1, 2), payload=stream.word * 3), (stream, syn)) == "udp4 stream"
    assert whose(packet(OWN, FAR, (1, syn.goes_to[2]), TCP, flags=craft.SYN), (stream, syn)) == syn.name
    assert whose(packet(OWN, FAR, (1, 2)), (stream, syn)) == ""


def outcome(verdict):
    return Outcome("a", "a test", verdict)


@pytest.mark.parametrize(
    ("verdicts", "more", "code"),
    [
        (["ok", "ok"], {}, Exit.OK),
        (["ok", "leak", "void"], {"unrestored": ("wg0: no",)}, Exit.LEAK),
        (["ok", "void"], {}, Exit.FAILED),
        (["ok"], {"unrestored": ("wg0: no",)}, Exit.FAILED),
        (["ok"], {"drift": True}, Exit.DRIFT),
        (["ok", "void"], {"drift": True}, Exit.FAILED),
        ([], {}, Exit.FAILED),
    ],
)
def test_the_exit_code_says_the_worst(verdicts, more, code):
    """A leak before all else, then what proves nothing or is not restored, then drift; no test at all is no proof."""
    report = Report(tuple(outcome(Verdict(each)) for each in verdicts), **more)

    assert report.exit is code
    assert report.verdict is worst(Verdict(each) for each in verdicts)

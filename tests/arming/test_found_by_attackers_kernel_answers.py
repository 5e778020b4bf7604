"""Answers that the kernel itself writes before, or besides, the rules that judge a forged source; each with its control.

A fragment that stays alone is answered when its time is up (RFC 792; RFC 4443, 3.3), and connection tracking takes it out of the
hook at priority -400. An unknown hop-by-hop option is answered (RFC 8200, 4.2) before any hook of netfilter's. Both answers quote
what was sent, to whoever the sender named as its source.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from failshut.drill.network.wait import until
from grouped import INTERNET4, INTERNET6, ROUTER4, TUNNEL4, TUNNEL6, UNDERLAY4, UNDERLAY6, Grouped

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
NET_RAW = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NET_RAW = (*NET_RAW, "--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw", "--bounding-set=-all,+net_raw")
ROUTER6 = "fd50::1"
ABROAD4, ABROAD6 = "198.18.0.66", "2001:db8:66::66"
LAN = '[allow.lan]\nprefixes = ["192.168.50.0/24", "fd50::/64"]\n'
OUTSIDE = '[outside]\nprefixes = ["198.51.100.0/24", "2001:db8:7::/64"]\n'
FRAGMENT, OPTION, HOPS = "fragment", "option", "hops"
# Counted by the kernel when it has dealt with one of them (RFC 4293).
DONE = {
    (FRAGMENT, 4): ("snmp", r"Ip: (?:\d+ ){12}(\d+)"),
    (FRAGMENT, 6): ("snmp6", r"Ip6ReasmTimeout\s+(\d+)"),
    (OPTION, 6): ("snmp6", r"Ip6InHdrErrors\s+(\d+)"),
}

SEND = """
import socket, struct, sys
kind, device, to, target, *sources = sys.argv[1:]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 65535)
    return ~(total + (total >> 16)) & 65535
cargo = struct.pack("!HHHH", 5000, 9999, 32 if kind != "fragment" else 64, 0) + b"cargo of who sent it...."
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for number, source in enumerate(sources):
    if ":" in source:
        alone, unfit = struct.pack("!BBHI", 17, 0, 1, number), bytes((17, 0, 0x9E, 4, 0, 0, 0, 0))
        before = {"fragment": alone, "option": unfit, "hops": b""}[kind]
        after = {"fragment": 44, "option": 0, "hops": 17}[kind]
        ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
        head = struct.pack("!IHBB", 6 << 28, len(before + cargo), after, 1 if kind == "hops" else 64) + ends + before
    else:
        # A record of the route with a length that no record has.
        options = bytes((7, 3, 1, 0)) if kind == "option" else b""
        flags, hops = (0x2000 if kind == "fragment" else 0), (1 if kind == "hops" else 64)
        ends = socket.inet_aton(source) + socket.inet_aton(target)
        size = 20 + len(options)
        head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(cargo), number, flags, hops, 17, 0) + ends + options
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    raw.sendto(head + cargo, (device, 0x86DD if ":" in source else 0x800, 0, 1, bytes.fromhex(to)))
"""


# What is answered to who forges a LAN host, and one outside.
reflected = pytest.mark.parametrize(
    ("kind", "target", "sources"),
    [
        (FRAGMENT, UNDERLAY4, (ROUTER4, INTERNET4)),
        (FRAGMENT, UNDERLAY6, (ROUTER6, INTERNET6)),
        (OPTION, UNDERLAY6, (ROUTER6, INTERNET6)),
    ],
    ids=["fragment4", "fragment6", "option6"],
)


@pytest.fixture
def machine():
    """A machine that gives up a fragment after a second, and, as most do, has no rules for what its bridges pass on."""
    with Grouped() as it:
        for key in ("ipv4/ipfrag_time", "ipv6/ip6frag_time", "netfilter/nf_conntrack_frag6_timeout"):
            it.must("sh", "-c", f"[ ! -e /proc/sys/net/{key} ] || echo 1 >/proc/sys/net/{key}")
        it.must("sh", "-c", "for each in /proc/sys/net/bridge/bridge-nf-call-ip*; do [ ! -e $each ] || echo 0 >$each; done")
        yield it


@pytest.fixture
def container(machine):
    """The prefix of commands that run in a container on a bridge of the machine's."""
    return machine.container()


def unlock(machine: Grouped) -> None:
    """Take away the lock, and what wg-quick has against who forges the tunnel's address."""
    for family, name in (
        ("inet", "failshut"),
        ("netdev", "failshut"),
        ("arp", "failshut"),
        ("ip", "wg-quick-wg0"),
        ("ip6", "wg-quick-wg0"),
    ):
        machine.run("nft", "delete", "table", family, name)


def answered(machine: Grouped, kind: str, prefix: tuple[str, ...], *to: str, within: float = 2.5) -> list:
    """Have it sent; wait until the kernel has dealt with it; return what the server saw of the answers."""
    device, hardware_address, target, *sources = to
    machine.watch()
    place = DONE.get((kind, 6 if ":" in target else 4))

    def dealt_with() -> int:
        text = machine.must("cat", f"/proc/net/{place[0]}")
        return int(re.search(place[1], text)[1])

    before = dealt_with() if place else 0
    subprocess.run([*prefix, PYTHON, "-c", SEND, kind, device, hardware_address, target, *sources], check=True, timeout=20)
    if place:
        # What is refused before is never counted; then this is how long it would have taken.
        until(lambda: dealt_with() >= before + len(sources), within=within)
    return [each for each in machine.seen() if each.protocol in ("icmp", "icmpv6") and each.target in sources]


@reflected
def test_a_container_can_t_have_the_kernel_carry_its_data_off_the_machine(machine, container, kind, target, sources):
    """With CAP_NET_RAW, as Docker gives it, it forges a LAN host and one outside, and the machine's answer quotes it to them."""
    machine.arm(LAN, OUTSIDE)
    assert machine.carries()
    argv = ((*container, *NET_RAW), "inner", machine.hardware("br-x"), target, *sources)

    leaked = [str(each) for each in answered(machine, kind, *argv) if each.device == "cable"]

    unlock(machine)
    machine.must("wg-quick", "down", "wg0")
    assert {each.target for each in answered(machine, kind, *argv, within=60)} == set(sources), "the control"
    assert leaked == []


@reflected
def test_the_tunnel_s_server_can_t_have_the_kernel_carry_its_data_to_the_link(machine, kind, target, sources):
    """Out of the tunnel comes what forges a LAN host and one outside. The control: without our rules it is answered."""
    machine.arm(LAN, OUTSIDE)
    assert machine.carries()
    ours = f"10.99.0.2/32,fd99::2/128,{UNDERLAY4}/32,{UNDERLAY6}/128"
    machine.server("sh", "-c", f"wg set served peer $(wg show served peers) allowed-ips {ours}")
    argv = (tuple(machine._there()), "served", "", target, *sources)

    leaked = [str(each) for each in answered(machine, kind, *argv) if each.device == "cable"]

    machine.must("nft", "flush", "table", "inet", "failshut")
    for chain in ("postrouting", "input"):
        machine.must("nft", "add", "rule", "inet", "failshut", chain, "meta", "mark", "set", "mark", "accept")
    machine.must("nft", "delete", "table", "netdev", "failshut")
    assert {each.target for each in answered(machine, kind, *argv, within=60) if each.device == "cable"}, "the control"
    assert leaked == []


@pytest.mark.parametrize(
    ("kind", "target", "source"),
    [
        (FRAGMENT, TUNNEL4, ABROAD4),
        (FRAGMENT, TUNNEL6, ABROAD6),
        (OPTION, TUNNEL6, ABROAD6),
        (OPTION, "192.168.50.77", ABROAD4),
        (HOPS, "192.168.50.77", ABROAD4),
    ],
    ids=[
        "fragment-to-its-address4",
        "fragment-to-its-address6",
        "option-to-its-address6",
        "option-to-another4",
        "hops-of-a-router4",
    ],
)
def test_who_is_on_the_link_does_not_make_the_machine_speak_in_the_tunnel(machine, kind, target, source):
    """It names a host of its own as the sender: the answer would show that host where this machine's tunnel ends."""
    machine.server("ip", "addr", "add", f"{source}/{128 if ':' in source else 32}", "dev", "lo")
    machine.arm(LAN)
    if kind == HOPS:
        machine.must("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert machine.carries()
    argv = (tuple(machine._there()), "cable", machine.hardware("eth0"), target, source)

    told = [str(each) for each in answered(machine, kind, *argv) if each.device == "served"]

    unlock(machine)
    assert [each for each in answered(machine, kind, *argv, within=60) if each.device == "served"], "the control"
    assert told == []


def test_the_link_does_not_find_the_tunnel_s_address_by_the_silence_about_it(machine):
    """An unfit option is answered whatever address it is sent to, but the tunnel's: who tries them all knows it then.

    The control: without the lock it is answered too, from the address itself.
    """
    machine.arm(LAN)
    neighbour = "10.99.0.3"
    eth0 = machine.hardware("eth0")

    def answers(target: str) -> set[str]:
        there = tuple(machine._there())
        return {each.source for each in answered(machine, OPTION, there, "cable", eth0, target, ROUTER4) if each.device == "cable"}

    locked = answers(neighbour), answers(TUNNEL4)
    unlock(machine)
    machine.must("wg-quick", "down", "wg0")
    machine.must("ip", "link", "add", "wg0", "type", "bridge")
    machine.must("ip", "addr", "add", f"{TUNNEL4}/32", "dev", "wg0")
    assert answers(TUNNEL4) == {TUNNEL4}, "the control"
    assert locked[0] == locked[1]

"""Flows that outlive what they ran on: opened before the lock, tracked or not, half dead, or answered by the kernel itself."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from functools import partial

from failshut.drill.attacker import craft, senders
from failshut.drill.lab import Lab
from failshut.drill.network import traffic
from failshut.drill.network.wait import pace, until
from failshut.drill.network.world import silence
from failshut.drill.scenario import Scenario
from failshut.drill.scenarios.routing import lose_rules
from failshut.model.packet import ICMP, ICMPV6, TCP, Packet
from failshut.model.units import Address

# Another tool's harmless rule: it only makes the kernel track connections.
TRACKING = "table inet other { chain o { type filter hook output priority 0; ct state established counter; }; }\n"
# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h: an empty IPCTNL_MSG_CT_DELETE deletes every entry.
NETLINK_NETFILTER, CT_DELETE, NLM_REQUEST_ACK = 12, (1 << 8) | 2, 5
UNLISTED_PORT = 8081


def in_the_clear(lab: Lab) -> None:
    """Start every program before the lock, with no tunnel: their flows are established in the clear."""
    lab.traffic.add(lab.background())
    lab.traffic.add([traffic.udp_unbound(lab.host(version)) for version in lab.versions])
    lab.traffic.start()
    until(lambda: lab.world.received("upload") > 5 and lab.world.received("dns") > 5, within=15)


def tracked(lab: Lab) -> None:
    """Start the programs while the kernel tracks connections already."""
    lab.client.do("nft", "-f", "-", stdin=TRACKING)
    in_the_clear(lab)


def go_on(lab: Lab) -> None:
    """Do nothing: the flows go on by themselves."""
    lab.extra_sent += 0


def socket_kinds(lab: Lab) -> None:
    """Lose the rules under UDP sockets of each kind: connected, bound to the tunnel's address, unbound, never answered."""
    for version in lab.versions:
        inner = lab.plan.tunnel_address(version)
        if inner is None:
            continue
        kinds = {
            "connected": traffic.udp_connected(lab.target(f"connected, IPv{version}").of(version)),
            "bound": traffic.udp_bound(inner, lab.target(f"bound, IPv{version}").of(version)),
            "unbound": traffic.udp_unbound(lab.target(f"unbound, IPv{version}").of(version), traffic.ECHO_PORT),
            "never answered": traffic.udp_connected(lab.target(f"never answered, IPv{version}").of(version), traffic.SINK_PORT),
        }
        lab.traffic.add(list(kinds.values()))
    echoed = lab.world.received("echo")
    until(lambda: lab.world.received("echo") > echoed + 40, within=3)
    lose_rules(lab)


def kernel_answers(lab: Lab) -> None:
    """Lose the rules while peers still send by the tunnel: the kernel answers closed ports with RST and ICMP errors."""
    flows = []
    for version in lab.versions:
        inner = lab.plan.tunnel_address(version)
        if inner is None:
            continue
        lab.watch(f"ICMP errors, IPv{version}", partial(_is_error, version=version))
        lab.watch(f"TCP resets, IPv{version}", partial(_is_reset, version=version))
        flows += [traffic.udp_connected(inner, 45000), traffic.tcp_upload(inner, 45001)]
    peers = traffic.Traffic(lab.hosts.server)
    peers.add(flows)
    lose_rules(lab)
    peers.start()
    pace(lab.window)
    peers.stop()
    lab.extra_sent += peers.sent


def _is_error(packet: Packet, version: int) -> bool:
    return packet.source is not None and packet.source.version == version and packet.protocol in (ICMP, ICMPV6)


def _is_reset(packet: Packet, version: int) -> bool:
    reset = packet.protocol == TCP and bool((packet.tcp_flags or 0) & craft.RST)
    return reset and packet.source is not None and packet.source.version == version


def _goes_to(addresses: Sequence[Address], packet: Packet) -> bool:
    return packet.target in addresses


def flush_conntrack(lab: Lab) -> None:
    """Delete every entry of the client's connection tracking, by netlink."""
    with lab.client.inside(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.settimeout(2)
        sock.send(struct.pack("=IHHIIBBH", 20, CT_DELETE, NLM_REQUEST_ACK, 1, 0, 0, 0, 0))
        sock.recv(4096)


def conntrack_flushed(lab: Lab) -> None:
    """Flush connection tracking mid-session: the tunnel must go on; then the rules are lost."""
    before = lab.carried()
    flush_conntrack(lab)
    lab.check("the tunnel goes on", until(lambda: all(now > before[name] for name, now in lab.carried().items()), within=15))
    lose_rules(lab)


def not_tracked(lab: Lab) -> None:
    """Let another tool switch connection tracking off for everything: the tunnel must go on; then the rules are lost."""
    lab.client.do(
        "nft",
        "-f",
        "-",
        stdin="table inet other {\n chain o { type filter hook output priority -300; notrack; }\n"
        " chain p { type filter hook prerouting priority -300; notrack; }\n}\n",
    )
    before = lab.carried()
    lab.check("the tunnel goes on", until(lambda: all(now > before[name] for name, now in lab.carried().items()), within=15))
    lose_rules(lab)


def mid_stream(lab: Lab) -> None:
    """Send what looks like the middle of a TCP connection that conntrack may pick up (nf_conntrack_tcp_loose)."""
    for version in lab.versions:
        for name, flags in (("ACK", craft.ACK), ("SYN and ACK", craft.SYN | craft.ACK), ("RST", craft.RST)):
            target = lab.target(f"{name}, IPv{version}").of(version)
            source = lab.own_address(version)
            packet = craft.ip(source, target, TCP, craft.tcp(source, target, (22, 443), flags, b"more"))
            lab.extra_sent += senders.raw_ip(lab, [packet], version, target)


def unsolicited(lab: Lab) -> None:
    """Have strangers call ports that no allowance names, open and closed, with marks reflected onto the answers."""
    lab.client.sysctl({"ipv4/fwmark_reflect": 1, "ipv6/fwmark_reflect": 1, "ipv4/tcp_fwmark_accept": 1})
    marks = f"meta mark set {int(lab.plan.fwmark):#x}"
    chain = f"chain p {{ type filter hook prerouting priority -160; iifname {lab.device} {marks}; }}"
    lab.client.do("nft", "-f", "-", stdin=f"table inet other {{ {chain}; }}\n")
    lab.world.tcp(lab.client, UNLISTED_PORT, "unlisted", echo=True)
    lab.world.udp(lab.client, UNLISTED_PORT, "unlisted", silence)
    for version in (4, 6):
        lab.watch(f"answers to strangers, IPv{version}", partial(_goes_to, (lab.host(version), lab.resolver(version))))
        for source, port in ((lab.host(version), UNLISTED_PORT), (lab.resolver(version), 8082)):
            local = lab.own_address(version)
            packets = [
                craft.ip(source, local, TCP, craft.tcp(source, local, (50000, port), craft.SYN)),
                craft.ip(source, local, 17, craft.udp(source, local, (50000, port), b"hello")),
                craft.ip(source, local, ICMP if version == 4 else ICMPV6, craft.echo_request(source, local)),
            ]
            cable = lab.plan.cable
            raw = [craft.ethernet(cable.mac, cable.router_mac, craft.ethertype_of(local), each) for each in packets]
            lab.extra_sent += senders.frames(lab.hosts.router, cable.router_end, raw)


SCENARIOS = (
    Scenario("clear-untracked", "flows opened before arming, not tracked", (43, 44), go_on, before=in_the_clear, tunnel=False),
    Scenario(
        "clear-tracked",
        "flows opened before arming, already tracked",
        (43, 44),
        go_on,
        before=tracked,
        tunnel=False,
        guide_leaks=True,
    ),
    Scenario("socket-kinds", "UDP connected, bound, unbound, never answered", (48,), socket_kinds, guide_leaks=True),
    Scenario("kernel-answers", "ICMP errors and RSTs about tunnelled flows", (47,), kernel_answers, guide_leaks=True),
    Scenario("conntrack-flushed", "conntrack is flushed, then the rule is lost", (49,), conntrack_flushed),
    Scenario("not-tracked", "another tool switches tracking off", (50,), not_tracked),
    Scenario("mid-stream", "packets from the middle of a TCP connection", (45,), mid_stream, traffic=False),
    Scenario("unsolicited", "strangers call unlisted ports; marks are reflected", (46, 54), unsolicited, tunnel=False),
)

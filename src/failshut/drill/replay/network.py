"""The replay's lab: a machine with devices of the names that the rules and the packets use, and the far ends of their cables.

    ┌────────── machine ──────────┐           ┌────────────── outside ──────────────┐
    │ eth0, docker0, … ──────────────────────── far0, far1, …  captured; answers    │
    │ wg0, a tunnel that carries ────────────── replaywg       answers              │
    └─────────────────────────────┘           └─────────────────────────────────────┘

Nobody listens outside: a program of ours sees every frame there, and answers those that open a connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from failshut.drill.attacker import craft
from failshut.drill.network import topology
from failshut.drill.network.capture import ETH_P_ALL
from failshut.drill.network.netns import Namespace, SetUpError, must
from failshut.drill.network.wait import pace, until
from failshut.drill.network.wireguard import create_device, fresh_keys
from failshut.host.files import PRIVATE_DIRECTORY
from failshut.host.run import run
from failshut.model.units import Address

SERVER_DEVICE = "replaywg"
FOLDER = Path("/run/failshut-replay")
PORT = 51820
# ip rules, in the kernel's order: after a mark was changed; while the tunnel's route stands; where the packet goes without it.
RE_ROUTED, TUNNELLED, PLAIN = 98, 99, 100
GATEWAYS = {4: "172.31.255.1", 6: "fe80::77"}
PROOF: dict[int, tuple[Address, Address]] = {
    4: (IPv4Address("10.99.0.2"), IPv4Address("198.51.100.250")),
    6: (IPv6Address("fd99::2"), IPv6Address("2001:db8:beef::250")),
}
_QUIET_TOO: dict[str, int | str] = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv4/conf/all/accept_local": 1,
    "ipv4/conf/default/accept_local": 1,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
}


@dataclass(frozen=True, slots=True)
class Device:
    """One of the machine's devices and the other end of its cable; a tunnel's other end is the server's device."""

    name: str
    far: str
    mac: str
    far_mac: str
    is_tunnel: bool = False


@dataclass(slots=True)
class Network:
    """The built lab."""

    machine: Namespace
    outside: Namespace
    devices: dict[str, Device]
    tunnel: str
    taps: dict[str, socket.socket] = field(default_factory=dict)

    def inject(self, device: str, packet: bytes) -> None:
        """Have a packet come in by a device, from its other end."""
        end = self.devices[device]
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
        frame = packet if end.is_tunnel else craft.ethernet(end.mac, end.far_mac, kind, packet)
        self.taps[device].sendto(frame, (end.far, kind))

    def heard(self, device: str) -> Iterator[bytes]:
        """Yield the IP packets that came out at a device's other end since the last time."""
        end, tap = self.devices[device], self.taps[device]
        while True:
            try:
                frame, address = tap.recvfrom(65535)
            except OSError:
                return
            if address[2] != 4 and (packet := ip_packet(frame if end.is_tunnel else frame[14:])):
                yield packet

    def hush(self) -> None:
        """Throw away what came out at any end so far."""
        for each in self.taps:
            for _ in self.heard(each):
                pass

    def setting(self, lines: Iterable[str], version: int) -> None:
        """Run `ip` lines of one family on the machine; what is there already, or gone already, is no failure."""
        self.machine.try_batch("\n".join(lines), f"-{version}")


def build(names: Sequence[str], tunnel: str) -> Network:
    """Build the lab in the worker's own namespaces. `names` are the machine's devices without the tunnel, the first its uplink."""
    machine, outside = Namespace("machine"), Namespace("outside")
    must(run(("ip", "-batch", "-"), stdin="netns add machine\nnetns add outside\n"))
    for host in (machine, outside):
        host.sysctl(topology.QUIET)
    machine.sysctl(_QUIET_TOO)
    devices = {each: Device(each, f"far{n}", f"02:00:00:{n:02x}:00:02", f"02:00:00:{n:02x}:00:01") for n, each in enumerate(names)}
    lines = [
        f"link add {each.name} netns machine address {each.mac} gso_max_segs 1 type veth "
        f"peer name {each.far} address {each.far_mac} netns outside"
        for each in devices.values()
    ]
    must(run(("ip", "-batch", "-"), stdin="\n".join(lines) + "\n"))
    machine.batch("\n".join(["link set lo up", *_machine(devices)]))
    first = devices[names[0]]
    for version, gateway in GATEWAYS.items():
        # Whatever a rule translates to has a way out.
        machine.batch(f"neigh replace {gateway} lladdr {first.far_mac} dev {first.name} nud permanent")
        machine.do("ip", f"-{version}", "route", "add", "default", "via", gateway, "dev", first.name, "onlink")
        machine.try_batch("\n".join(f"rule add pref {each} lookup {each}" for each in (TUNNELLED, PLAIN)), f"-{version}")
    outside.batch("\n".join(["link set lo up", *(f"link set {each.far} up" for each in devices.values())]))
    made = Network(machine, outside, devices, tunnel)
    _make_tunnel(made)
    devices[tunnel] = Device(tunnel, SERVER_DEVICE, "", "", is_tunnel=True)
    for each in devices.values():
        made.taps[each.name] = _tap(outside, each)
    return made


def _machine(devices: dict[str, Device]) -> Iterator[str]:
    for number, each in enumerate(devices.values()):
        yield f"link set {each.name} up"
        yield f"address add 172.31.{number}.2/32 dev {each.name}"
        yield f"address add fd00:31:{number:x}::2/128 dev {each.name}"


def _make_tunnel(made: Network) -> None:
    """Bring up WireGuard between the two.

    Both ends are made outside, and then the machine gets its device: what carries the tunnel stays where it was made, so that the
    tunnel works whatever the rules say of its server.
    """
    os.environ["LOG_LEVEL"] = "silent"
    FOLDER.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    here, there = fresh_keys(), fresh_keys()
    for name, keys in (("machine", here), ("outside", there)):
        (FOLDER / name).write_text(keys.private)
    for device in (SERVER_DEVICE, made.tunnel):
        create_device(made.outside, device)
    everything = ("allowed-ips", "0.0.0.0/0,::/0")
    made.outside.do(
        *("wg", "set", SERVER_DEVICE, "listen-port", str(PORT), "private-key", str(FOLDER / "outside")),
        *("peer", here.public, *everything),
    )
    made.outside.do(
        *("wg", "set", made.tunnel, "private-key", str(FOLDER / "machine")),
        *("peer", there.public, *everything, "endpoint", f"127.0.0.1:{PORT}"),
    )
    made.outside.batch(f"link set {SERVER_DEVICE} mtu 1420 up\nlink set {made.tunnel} netns machine")
    addresses = "\n".join(f"address add {PROOF[each][0]} dev {made.tunnel}" for each in (4, 6))
    made.machine.batch(f"link set {made.tunnel} mtu 1420 up\n{addresses}")


def _tap(outside: Namespace, end: Device) -> socket.socket:
    with outside.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM if end.is_tunnel else socket.SOCK_RAW, 0)
    tap.setblocking(False)
    tap.bind((end.far, ETH_P_ALL))
    return tap


def prove_tunnel(made: Network) -> None:
    """See that the tunnel carries a datagram of each family to the server. Raises SetUpError."""
    for family, (own, target) in PROOF.items():
        made.setting([f"route replace {target} dev {made.tunnel} table {TUNNELLED}"], family)
        token = f"the tunnel carries {family} ".encode() + os.urandom(8)
        with made.machine.inside():
            sock = socket.socket(socket.AF_INET if own.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with sock:
            if not until(partial(_carries, made, sock, (str(own), str(target)), token), within=10):
                raise SetUpError(f"the lab's tunnel carried no IPv{family}")
        made.setting([f"route flush table {TUNNELLED}"], family)


def _carries(made: Network, sock: socket.socket, ends: tuple[str, str], token: bytes) -> bool:
    """Whether a datagram comes out at the server. A busy kernel may yet have to finish the address, or the handshake."""
    with contextlib.suppress(OSError):
        if not sock.getsockname()[1]:
            sock.bind((ends[0], 0))
        sock.sendto(token, (ends[1], 7001))
    return wait_for(made, made.tunnel, partial(_holds, token), within=0.5) is not None


def _holds(token: bytes, packet: bytes) -> bool:
    return token in packet


def wait_for(made: Network, device: str, wanted: Callable[[bytes], bool], within: float = 1.0) -> bytes | None:
    """Return the first packet out of a device that is `wanted`; None when none came in time (seconds)."""
    end = time.monotonic() + within
    while True:
        for each in made.heard(device):
            if wanted(each):
                return each
        if time.monotonic() >= end:
            return None
        pace(0.002)


def ip_packet(body: bytes) -> bytes:
    """Return what a frame carries where that is an IP packet with its header whole; nothing of ARP and the like."""
    shortest = {4: 20, 6: 40}.get(body[0] >> 4) if body else None
    return body if shortest and len(body) >= shortest else b""


def ports_of(packet: bytes) -> tuple[Address, Address, int, bytes]:
    """Return a packet's source, target, protocol and what follows its IP header; IPv6 without extension headers."""
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        return IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[9], packet[head:]
    return IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), packet[6], packet[40:]


def sequence_of(segment: bytes) -> int:
    """Return a TCP segment's sequence number."""
    return int(struct.unpack(">I", segment[4:8])[0])

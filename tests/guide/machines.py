"""The guide's two machines, really booted: a laptop at home and a VPS, on two cables to the Internet, which is one namespace.

laptop: host0 192.168.77.2 ── cable ┐ internet: 198.51.100.80 www.example.net (a web server that says who asked),
VPS:    host0 203.0.113.10 ── rented┘           9.9.9.9 and 192.168.77.1 (resolvers)
"""

from __future__ import annotations

import json
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Self

import watcher
from boot.machine import Address, Machine
from boot.room import Room, RoomNamespace
from boot.wire import DEVICE
from connected import Frame
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import until
from two_sites import web

SITE = "www.example.net"
SITE4, SITE6 = "198.51.100.80", "2001:db8:80::80"
VPS4, VPS6 = "203.0.113.10", "2001:db8:10::10"
HOME4, HOME6 = "192.168.77.2", "fd77::2"
RESOLVERS = ("9.9.9.9", "2620:fe::fe")


def _network(address4: str, address6: str) -> str:
    """Return what systemd-networkd is told of a machine's cable."""
    lines = []
    for each, length in ((address4, 24), (address6, 64)):
        gateway = next(ip_network(f"{each}/{length}", strict=False).hosts())
        lines += [f"Address={each}/{length}", f"Gateway={gateway}"]
    return "\n".join((f"[Match]\nName={DEVICE}\n[Network]\nIPv6AcceptRA=no", *lines, ""))


class Cable:
    """One machine's way to the Internet: what `Machine` needs of a router."""

    def __init__(self, internet: Internet, name: str, address4: str, address6: str) -> None:
        self._internet, self.name = internet, name
        self._gateways = [
            f"{next(ip_network(f'{each}/{length}', strict=False).hosts())}/{length}"
            for each, length in ((address4, 24), (address6, 64))
        ]

    def plug(self, machine: Namespace) -> None:
        """Run a new cable to the machine."""
        namespace, room = self._internet.namespace, self._internet.room
        namespace.try_batch(f"link delete {self.name}")
        room.do(
            *("ip", "link", "add", self.name, "netns", namespace.name, "type", "veth"),
            *("peer", "name", DEVICE, "netns", machine.name),
        )
        namespace.batch(
            "\n".join((*(f"address add {each} dev {self.name}" for each in self._gateways), f"link set {self.name} up"))
        )


class Internet:
    """Forwards between the cables, answers for the site, and for the names of both."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.namespace: RoomNamespace = room.namespace("internet")

    def __enter__(self) -> Self:
        quiet = {"ipv6/conf/default/accept_dad": 0, "ipv6/conf/all/forwarding": 1, "ipv4/ip_forward": 1}
        self.namespace.sysctl(quiet)
        lines = ["link set lo up", *(f"address add {each} dev lo" for each in (SITE4, SITE6, *RESOLVERS))]
        self.namespace.batch("\n".join(lines))
        self.room.start(*web(), net=self.namespace)
        names = (f"--address=/{SITE}/{SITE4}", f"--address=/{SITE}/{SITE6}", f"--address=/vpn.example.com/{VPS4}")
        self.room.start(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", *names),
            *("--pid-file=/run/dnsmasq.pid",),
            net=self.namespace,
        )
        assert until(lambda: self.namespace.run("ss", "-Hltn", "sport", "=", ":80").out != "", within=30, step=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def watch(self) -> subprocess.Popen[str]:
        """Begin to note what the laptop sends; `seen` ends it."""
        inside = ("nsenter", f"--net={self.namespace.path}", "python3", watcher.__file__, "cable")
        process = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process


def seen(watching: subprocess.Popen[str]) -> list[Frame]:
    """Return every IP packet but the tunnel's own transport and what keeps the link alive."""
    report = json.loads(watching.communicate("stop\n", timeout=60)[0])
    assert not report["dropped"], "the watcher lost frames: the run is void"
    return [Frame(**each) for each in report["frames"]]


class _Guide(Machine):
    """A machine that has nothing yet but its addresses and a resolver."""

    # Its own network manager sets them.
    static = ""
    network = ""

    def furnish(self) -> None:
        """Give it addresses and a resolver."""
        self.write("/etc/systemd/network/10-cable.network", self.network)
        self.systemctl_offline("enable", "systemd-networkd")
        self.write("/etc/resolv.conf", "nameserver 192.168.77.1\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost {self.name}\n{VPS4} vps\n")
        self.systemctl_offline("mask", "systemd-networkd-wait-online")


class Laptop(_Guide):
    """At home."""

    name, network = "laptop", _network(HOME4, HOME6)


class Vps(_Guide):
    """Rented: an SSH server listens."""

    name, network = "vps", _network(VPS4, VPS6)

    def furnish(self) -> None:
        """Have the SSH server on at boot."""
        super().furnish()
        self.systemctl_offline("enable", "ssh")


class Guide:
    """Laptop, VPS and Internet, booted; off with the block."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def __enter__(self) -> Self:
        self._room = Room().__enter__()
        try:
            self.internet = Internet(self._room).__enter__()
            self.laptop = Laptop(self._room, Cable(self.internet, "cable", HOME4, HOME6), self._tree, Address.STATIC).__enter__()
            self.vps = Vps(self._room, Cable(self.internet, "rented", VPS4, VPS6), self._tree, Address.STATIC).__enter__()
            self.vps.boot()
            self.laptop.boot()
        except BaseException:
            self._room.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in (self.laptop, self.vps):
            machine.__exit__()
        self._room.__exit__()

    def fetch(self) -> str:
        """Return who the site thinks the laptop is, by IPv4; empty when it is not reached."""
        return self.laptop.run("curl", "-4", "--silent", "--max-time", "10", f"http://{SITE}/").out

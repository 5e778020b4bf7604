"""A stand-in for tailscaled: its marked sockets, its routing rules, its interface, and a tailnet that answers everything.

What it imitates is tailscaled's on Linux: 0x80000 of 0xff0000 on each of its own sockets, rules 5210 to 5270, table 52, tailscale0.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

from failshut.drill.network.netns import Namespace
from failshut.model.marks import TAILSCALE, TAILSCALE_MASK
from failshut.model.policy import TAILSCALE_INTERFACE
from failshut.model.units import Address

OWN: dict[int, Address] = {4: IPv4Address("100.101.102.103"), 6: IPv6Address("fd7a:115c:a1e0::103")}
PEER: dict[int, Address] = {4: IPv4Address("100.64.7.7"), 6: IPv6Address("fd7a:115c:a1e0::77")}
MAGIC_DNS = IPv4Address("100.100.100.100")
# asm-generic/socket.h; linux/if_tun.h
SO_MARK = 36
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000


# Its iptables rules (util/linuxfw of its source) in nft's words.
_FIREWALL = """
table inet ts {
	chain input {
		type filter hook input priority filter;
		iifname "lo" ip saddr 100.101.102.103 accept
		iifname != "tailscale0" ip saddr 100.64.0.0/10 drop
		iifname "tailscale0" accept
	}
	chain forward {
		type filter hook forward priority filter;
		iifname "tailscale0" meta mark set meta mark & 0xff00ffff ^ 0x00040000
		meta mark & 0x00ff0000 == 0x00040000 accept
		oifname "tailscale0" ip saddr 100.64.0.0/10 drop
		oifname "tailscale0" accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		meta mark & 0x00ff0000 == 0x00040000 masquerade
	}
	chain restore {
		type filter hook prerouting priority mangle;
		ct state established,related meta mark set ct mark & 0x00ff0000
	}
	chain save {
		type route hook output priority mangle;
		ct state new meta mark & 0x00ff0000 != 0 ct mark set meta mark & 0x00ff0000
	}
}
"""


def mark(sock: socket.socket, value: int = TAILSCALE) -> None:
    """Mark a socket as tailscaled does its own."""
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, value)


class Tailscaled:
    """Its interface and its UDP sockets, on a client."""

    def __init__(self, client: Namespace, port: int) -> None:
        self._client = client
        self._stop = threading.Event()
        with client.inside():
            self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack("=16sH22x", TAILSCALE_INTERFACE.encode(), _IFF_TUN | _IFF_NO_PI))
            self.sockets = {version: _peer_socket(version, port) for version in (4, 6)}
        client.batch(_interface())
        self._thread = threading.Thread(target=self._tailnet, name="tailnet", daemon=True)
        self._thread.start()

    def route(self) -> None:
        """Add its routing rules, where it adds them itself: before wg-quick's if wg-quick came first, behind them if not.

        And its firewall rules: ts-input, ts-forward, ts-postrouting, and the marks that it keeps with its connections.
        """
        marked = f"fwmark {int(TAILSCALE):#x}/{int(TAILSCALE_MASK):#x}"
        rules = (f"5210 {marked} table main", f"5230 {marked} table default", f"5250 {marked} type unreachable", "5270 table 52")
        self._client.do("nft", "-f", "-", stdin=_FIREWALL)
        for version in (4, 6):
            for each in rules:
                self._client.do("ip", f"-{version}", "rule", "add", "pref", *each.split())

    def hears(self, version: int, sender: Address) -> bool:
        """Whether a peer's datagram from `sender` comes in within a second; it is answered."""
        sock = self.sockets[version]
        sock.settimeout(1.0)
        with contextlib.suppress(OSError):
            message, peer = sock.recvfrom(2048)
            sock.sendto(message, peer)
            return str(peer[0]) == str(sender)
        return False

    def inject(self, packet: bytes) -> None:
        """Let a packet come in from the tailnet."""
        os.write(self._tun, packet)

    def stop(self) -> None:
        """End: the interface goes with it, the routing rules stay as after a crash."""
        self._stop.set()
        self._thread.join()
        os.close(self._tun)
        for each in self.sockets.values():
            each.close()

    def _tailnet(self) -> None:
        while not self._stop.is_set():
            if select.select([self._tun], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    packet = os.read(self._tun, 65536)
                    if (answer := _echoed(packet)) is not None:
                        os.write(self._tun, answer)


@contextmanager
def tailscaled(client: Namespace, port: int) -> Iterator[Tailscaled]:
    """Run a stand-in on a client for a while."""
    running = Tailscaled(client, port)
    try:
        yield running
    finally:
        running.stop()


def _peer_socket(version: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    mark(sock)
    sock.bind(("", port))
    return sock


def _interface() -> str:
    device = TAILSCALE_INTERFACE
    lines = [f"link set {device} mtu 1280 up"]
    lines += [f"address add {each}/{each.max_prefixlen} dev {device}" for each in OWN.values()]
    return "\n".join([*lines, *(f"route add {each} dev {device} table 52" for each in (*PEER.values(), MAGIC_DNS))])


def _echoed(packet: bytes) -> bytes | None:
    """Return a UDP packet with its ends exchanged, as an echo would send it; the checksum is the same. None for anything else."""
    head, addresses, each = (20, 12, 4) if packet[0] >> 4 == 4 else (40, 8, 16)
    protocol = packet[9] if head == 20 else packet[6]
    if protocol != socket.IPPROTO_UDP or len(packet) < head + 8:
        return None
    source, target = packet[addresses : addresses + each], packet[addresses + each : addresses + 2 * each]
    ports = packet[head + 2 : head + 4] + packet[head : head + 2]
    return packet[:addresses] + target + source + ports + packet[head + 4 :]

"""A machine to arm with OpenVPN: the sandbox, a cable, and two real OpenVPN servers at its other end."""

from __future__ import annotations

import json
import threading

from connected import INNER, SERVER, SINK_PORT, Connected
from failshut.drill.network.pki import fresh_authority, inline
from failshut.drill.network.wait import until

SECOND = "203.0.113.11"
PORT = 1194
CONFIG = "/etc/openvpn/client/tun0.conf"
# The first server, and the second; each with a network of its own.
_NETWORKS = {SERVER: "10.99.0", SECOND: "10.98.0"}
_SERVER_CONFIG = """\
dev {device}
dev-type tun
local {address}
port {port}
proto {proto}
server {network}.0 255.255.255.0
topology subnet
dh none
keepalive 1 4
duplicate-cn
push "redirect-gateway def1"
"""
_CLIENT_CONFIG = """\
client
dev tun0
proto {proto}
remote {first} {port}
remote {second} {port}
nobind
persist-key
connect-retry 1 2
connect-timeout 3
{more}"""
_SENDER = """
import itertools, socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in itertools.count():
    try: sock.sendto(b"a diary", ("198.51.100.9", 4444))
    except OSError: pass
    if number % 50 == 0: print("tried", number, flush=True)
    time.sleep(0.01)
"""


class OpenVpnLab(Connected):
    """A sandbox whose cable ends at a router that is also two OpenVPN servers."""

    def __init__(self, proto: str = "udp") -> None:
        self.proto = proto

    def _start_server(self) -> None:
        # As udev leaves it on Debian: whoever OpenVPN becomes may open it.
        make = "mknod /run/tun c 10 200 && chmod 666 /run/tun && mount --bind /run/tun /dev/net/tun"
        self.must("sh", "-c", make)
        self._authority = fresh_authority()
        self.server("ip", "address", "add", f"{SECOND}/32", "dev", "cable")
        self.server("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for address in _NETWORKS:
            self.start_server(address)

    def start_server(self, address: str) -> None:
        """Start the server at an address; wait until it has its device."""
        device = self.device_of(address)
        text = _SERVER_CONFIG.format(
            device=device,
            address=address,
            port=PORT,
            proto="tcp-server" if self.proto == "tcp" else "udp",
            network=_NETWORKS[address],
        )
        path = f"/run/{device}.conf"
        self.server("sh", "-c", 'cat > "$1"', "sh", path, stdin=text + inline(self._authority, self._authority.server))
        self.server("openvpn", "--config", path, "--daemon", "--writepid", f"/run/{device}.pid", "--log", f"/run/{device}.log")
        if not until(lambda: any(each["ifname"] == device for each in json.loads(self.server("ip", "-j", "link"))), within=10):
            raise RuntimeError(f"the server at {address} does not start: {self.server('cat', f'/run/{device}.log')}")

    def end_server(self, address: str) -> None:
        """End the server at an address."""
        self.server("sh", "-c", f"kill $(cat /run/{self.device_of(address)}.pid)")

    @staticmethod
    def device_of(address: str) -> str:
        """Return the server's device."""
        return f"served{list(_NETWORKS).index(address)}"

    def config(self, more: str = "") -> str:
        """Return the client's config, as a provider sends it."""
        text = _CLIENT_CONFIG.format(proto=self.proto, first=SERVER, second=SECOND, port=PORT, more=more)
        return text + inline(self._authority, self._authority.client)

    def start_client(self) -> None:
        """Start OpenVPN by hand, as a daemon."""
        self.must("openvpn", "--config", CONFIG, "--daemon", "--writepid", "/run/client.pid", "--log", "/run/client.log")

    def end_client(self, signal: str = "TERM") -> None:
        """End it, and wait until its device is gone."""
        self.must("sh", "-c", f"kill -{signal} $(cat /run/client.pid)")
        if not until(lambda: not self.has("tun0"), within=10):
            raise RuntimeError("tun0 stays")

    def carries_to(self, address: str, *, within: float = 40) -> bool:
        """Wait until a connection through the tunnel gets to the server at an address."""
        inner = f"{_NETWORKS[address]}.1"
        script = f"import socket; socket.create_connection(({inner!r}, {SINK_PORT}), 1)"
        return until(lambda: self.run("python3", "-c", script).returncode == 0, within=within, step=0.1)

    def log(self) -> str:
        """Return what the client says."""
        return self.read("/run/client.log")

    def send(self) -> None:
        """Start a program that sends to the world, all the time."""
        self._sender = self.start("python3", "-c", _SENDER)
        self._tried = 0
        threading.Thread(target=self._listen, args=(self._sender,), daemon=True).start()
        self.hear()

    def hear(self, times: int = 100) -> None:
        """Wait until it has tried so many times more."""
        aim = self._tried + times
        if not until(lambda: self._tried >= aim, within=30, step=0.05):
            raise RuntimeError("nothing is sent")

    def silence(self) -> None:
        """End that program."""
        self._sender.kill()
        self._sender.wait()

    def _listen(self, program) -> None:
        for line in program.stdout:
            self._tried = int(line.split()[1])


__all__ = ("CONFIG", "INNER", "PORT", "SECOND", "SERVER", "OpenVpnLab")

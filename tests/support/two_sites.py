"""A client and a VPS, each a sandbox of its own, on two cables to a router that is the Internet, and captures.

client: eth0 192.168.50.2 ── home ┐ router: 198.51.100.80 2001:db8:80::80, a web server that says who asked
VPS:  eth0 203.0.113.10 ── rented ┘
"""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Self

import watcher
from connected import Frame
from sandbox import Sandbox, Sweeper, another_machine

VPS4, VPS6 = "203.0.113.10", "2001:db8:10::10"
SITE4, SITE6 = "198.51.100.80", "2001:db8:80::80"
# What a cloud gives its machines, their credentials among it.
METADATA = "169.254.169.254"
HOME4, HOME6 = "192.168.50.2", "fd50::2"

_FORWARD = """
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
"""
_WEB = """
import http.server, socket
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)
    def log_message(self, *_):
        pass
serving = Server(("::", {port}), Page)
print("listening", flush=True)
serving.serve_forever()
"""
# Long enough for a handshake that needs a second try.
FETCH = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(sys.argv[1], timeout=float(sys.argv[2])).read().decode(), end="")
"""


def web(port: int = 80) -> tuple[str, ...]:
    """Return the command of a web server that tells its callers their address; it prints a line when it listens."""
    return ("python3", "-c", _WEB.format(port=port))


def url(host: str, port: int = 80) -> str:
    """Return the address of a page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Machine(Sandbox):
    """A sandbox with a cable to the router."""

    def ok(self, *argv: str) -> str:
        """Run failshut, which must succeed; return what it answers."""
        done = self.failshut(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def fetch(self, page: str, seconds: float = 15) -> str:
        """Return a web page, or nothing when it can't be had."""
        return self.run("python3", "-c", FETCH, page, str(seconds)).stdout

    def serve(self, port: int) -> None:
        """Have a web server listen here."""
        assert self.start(*web(port)).stdout.readline() == "listening\n"


class TwoSites:
    """Client, VPS, and the Internet between them; gone with the block, or with the test's process."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.client, self.vps = stack.enter_context(Machine()), stack.enter_context(Machine())
            self._router = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *another_machine(_FORWARD)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._router.stdout.readline() == "ready\n"
            stack.callback(self._router.communicate)
            stack.callback(Sweeper(self._router.pid).sweep)
            self.plug(self.client, "home", HOME4, HOME6)
            self.plug(self.vps, "rented", VPS4, VPS6)
            self.answer_for(SITE4, SITE6, METADATA)
            self._web = self._start(*web())
            assert self._web.stdout.readline() == "listening\n"
            stack.callback(self._web.communicate)
            stack.callback(self._web.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plug(self, machine: Machine, cable: str, address4: str, address6: str) -> None:
        """Give a machine two addresses, and the router the first ones of their networks at the other end of its cable."""
        machine.must("ip", "link", "set", "cable", "netns", str(self._router.pid), "name", cable)
        machine.must("ip", "addr", "flush", "dev", "eth0")
        self.router("ip", "link", "set", cable, "up")
        for address, length, version in ((address4, 24, "-4"), (address6, 64, "-6")):
            gateway = str(next(ip_network(f"{address}/{length}", strict=False).hosts()))
            nodad = ("nodad",) if version == "-6" else ()
            self.router("ip", "addr", "add", f"{gateway}/{length}", "dev", cable, *nodad)
            machine.must("ip", "addr", "add", f"{address}/{length}", "dev", "eth0", *nodad)
            machine.must("ip", version, "route", "add", "default", "via", gateway)

    def answer_for(self, *addresses: str) -> None:
        """Have the router be the machines of these addresses too."""
        for each in addresses:
            self.router("ip", "addr", "add", each, "dev", "lo", *(("nodad",) if ":" in each else ()))

    def router(self, *argv: str) -> str:
        """Run a program at the router, which must succeed."""
        done = subprocess.run([*self._there(), *argv], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def watch(self, *devices: str) -> None:
        """Begin to note what comes to the router from one or both cables."""
        self._watcher = self._start("python3", watcher.__file__, *devices)
        assert self._watcher.stdout.readline() == "ready\n"

    def seen(self) -> list[Frame]:
        """End the watch, and return every IP packet but the tunnel's own transport and what keeps the link alive."""
        out, _ = self._watcher.communicate("stop\n", timeout=60)
        report = json.loads(out)
        assert not report["dropped"], "the watcher lost frames: the run is void"
        return [Frame(**each) for each in report["frames"]]

    def _there(self) -> list[str]:
        return ["nsenter", f"--target={self._router.pid}", "--net", "--mount"]

    def _start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._there(), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

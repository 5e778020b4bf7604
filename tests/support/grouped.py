"""A connected machine with control groups of its own, and an Internet behind the tunnel and, in the clear, behind the cable."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Self

import pytest

from connected import Connected
from failshut.drill.network.wait import until
from failshut.host.service.cgroups import cgroup2_mounts
from needed import needs_root_and

INTERNET4, INTERNET6 = "198.51.100.7", "2001:db8:7::7"
UNDERLAY4, UNDERLAY6 = "192.168.50.2", "fd50::2"
TUNNEL4, TUNNEL6 = "10.99.0.2", "fd99::2"
ROUTER4 = "192.168.50.1"
ECHO = 7001

# Says to each who asks from which address the question came.
_ECHO = f"""
import socket, threading
def serve(family, host):
    udp, tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((host, {ECHO})); tcp.bind((host, {ECHO})); tcp.listen(512)
    def datagrams():
        while True:
            _, peer = udp.recvfrom(999)
            udp.sendto(peer[0].encode(), peer)
    def streams():
        while True:
            connection, peer = tcp.accept()
            try:
                connection.recv(999)
                connection.sendall(peer[0].encode())
            except OSError:
                pass
            connection.close()
    for each in (datagrams, streams):
        threading.Thread(target=each).start()
serve(socket.AF_INET, "{INTERNET4}")
serve(socket.AF_INET6, "{INTERNET6}")
print("ready", flush=True)
"""

# Asks by each family and transport; prints who it was seen as, "" for no answer.
ASK = f"""
import socket, sys, json
seen = {{}}
for name, family, kind, host in (
    ("tcp4", socket.AF_INET, socket.SOCK_STREAM, "{INTERNET4}"), ("udp4", socket.AF_INET, socket.SOCK_DGRAM, "{INTERNET4}"),
    ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, "{INTERNET6}"), ("udp6", socket.AF_INET6, socket.SOCK_DGRAM, "{INTERNET6}"),
):
    with socket.socket(family, kind) as sock:
        sock.settimeout(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
        try:
            sock.connect((host, {ECHO}))
            sock.send(b"hello")
            seen[name] = sock.recv(99).decode()
        except OSError:
            seen[name] = ""
print(json.dumps(seen))
"""


class Grouped(Connected):
    """The machine's programs run below a control group that only this test has; inside, it is the root of all groups."""

    spaces = ("cgroup", *Connected.spaces)

    @property
    def cgroup(self) -> str:
        """Where the group is, seen from the tester."""
        return str(self._group)

    def __enter__(self) -> Self:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        root = next((each for each in cgroup2_mounts(mounts) if (each / "cgroup.procs").exists()), None)
        if root is None or not os.access(root, os.W_OK):
            pytest.skip("needs a writable cgroup v2: the kernel tells programs apart by it")
        self._group = root / f"failshut-test-{uuid.uuid4().hex[:8]}"
        self._group.mkdir()
        try:
            super().__enter__()
            self._own_groups()
            self._serve()
        except BaseException:
            self._remove_groups()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        (self._group / "cgroup.kill").write_text("1", encoding="ascii")
        super().__exit__()
        self._remove_groups()

    def arm(self, *lines: str, policy: str = "") -> None:
        """Bring the tunnel up and put the lock on, with these lines at the policy's end."""
        self.adopt_tunnel("\n".join([policy or '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"', *lines, ""]))
        done = self.failshut("arm")
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def outside_of_tunnel(self, *argv: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None):
        """Run a program by `failshut exec --outside`."""
        return self.failshut("exec", "--outside", *options, "--", *argv, env=env)

    def ask(self, *prefix: str, patience: float = 10) -> dict[str, str]:
        """Ask the Internet by each family and transport; return as whom this machine was seen."""
        done = self.run(*prefix, "/usr/bin/python3", "-c", ASK, str(patience))
        return json.loads(done.stdout or "{}") or {"failed": done.stderr}

    def hardware(self, device: str) -> str:
        """Return a device's hardware address, in hex digits alone."""
        return json.loads(self.must("ip", "-j", "link", "show", device))[0]["address"].replace(":", "")

    def container(self, *lines: str) -> tuple[str, ...]:
        """Make a container on a new bridge, br-x, by its device `inner`; `lines` of ip(8) configure it. Return what runs inside."""
        self.must("ip", "link", "add", "br-x", "type", "bridge")
        self.must("ip", "addr", "add", "172.20.0.1/24", "dev", "br-x")
        self.must("ip", "link", "set", "br-x", "up")
        held = self.start("unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec sleep infinity")
        assert held.stdout.readline() == "ready\n"
        inside = ("nsenter", f"--target={held.pid}", "--net")
        self.must("ip", "link", "add", "port", "type", "veth", "peer", "name", "inner")
        self.must("ip", "link", "set", "port", "master", "br-x", "up")
        self.must("ip", "link", "set", "inner", "netns", str(held.pid))
        for line in ("link set inner up", *lines):
            subprocess.run([*inside, "ip", *line.split()], check=True, timeout=20)
        assert until(lambda: "lower_up" in self.must("ip", "link", "show", "port").lower(), within=10)
        return inside

    def group(self, path: str) -> Path:
        """Return where a control group of the machine's is, seen from the tester."""
        return self._group / path

    def _own_groups(self) -> None:
        self.must("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")

    def _serve(self) -> None:
        for address in (f"{INTERNET4}/32", f"{INTERNET6}/128"):
            self.server("ip", "addr", "add", address, "dev", "lo", *(("nodad",) if ":" in address else ()))
        self.server("ip", "-6", "addr", "add", "fd99::1/128", "dev", "served", "nodad")
        self.server("ip", "-6", "route", "add", "fd99::2", "dev", "served")
        self._echo = self.at_server("python3", "-c", _ECHO)
        if self._echo.stdout.readline() != "ready\n":
            raise RuntimeError("the Internet does not answer")

    def _holder_prefix(self) -> list[str]:
        return self._joining("unshare", "--cgroup")

    def _joining(self, *argv: str) -> list[str]:
        return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(self._group), *argv]

    def _inside(self, argv: tuple[str, ...], env: dict[str, str] | None = None) -> list[str]:
        # Below its group before it enters: the namespace may be a border that none crosses.
        enter, *rest = super()._inside(argv, env)
        return self._joining(enter, "--cgroup", *rest)

    def _remove_groups(self) -> None:
        def is_gone() -> bool:
            for directory, _, _ in os.walk(self._group, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    return False
            return True

        if not until(is_gone, within=10, step=0.05):
            raise RuntimeError(f"something still runs in {self._group}")


def needs_programs() -> None:
    """Skip where the lab's programs are missing."""
    needs_root_and("nft", "wg", "wg-quick", "wireguard-go", "ip", "unshare", "nsenter", "setpriv")

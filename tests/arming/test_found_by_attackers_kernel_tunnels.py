"""A container that is given CAP_NET_ADMIN, as for a VPN of its own, in a network namespace of its own, and in the machine's users.

The kernel lets it name the other end of its veth (`link-netnsid`): a tunnel device of its own may have its socket in the machine's
namespace, and what it wraps is the machine's own packet: allowed where the machine is (docs/known-limits.md), and nowhere else.
"""

from __future__ import annotations

import subprocess

import pytest

from grouped import INTERNET4, Grouped

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
NET_ADMIN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--")
LAN = '[allow.lan]\nprefixes = ["192.168.50.0/24"]\n'
SEND = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'cargo', ('10.77.7.2', 9))"


def test_a_container_s_tunnel_device_reaches_nothing_that_the_machine_may_not():
    """With the tunnel down. The control: without the lock the same datagram leaves, wrapped by VXLAN."""
    with Grouped() as machine:
        held = machine.start(
            "unshare", "--net", "--pid", "--fork", "sh", "-c", "ip link set lo up; echo ready; exec sleep infinity"
        )
        assert held.stdout.readline() == "ready\n"
        process = machine.must("cat", f"/proc/{held.pid}/task/{held.pid}/children").split()[0]
        inside = ("nsenter", f"--target={process}", "--net", "--pid", *NET_ADMIN)
        machine.must("ip", "link", "add", "port", "type", "veth", "peer", "name", "inner")
        machine.must("ip", "link", "set", "inner", "netns", process)
        machine.arm(LAN)
        assert machine.carries()

        def must(*argv: str) -> None:
            subprocess.run([*inside, *argv], check=True, timeout=20, capture_output=True)

        # By the first look at its own devices the other namespace gets its number.
        must("ip", "link")
        made = ("ip", "link", "add", "vx0", "link-netnsid", "0", "type", "vxlan", "id", "7", "remote", INTERNET4, "dstport", "4789")
        subprocess.run([*inside, *made], check=False, timeout=20)
        must("ip", "link", "set", "vx0", "up")
        must("ip", "addr", "add", "10.77.7.1/24", "dev", "vx0")
        must("ip", "neigh", "add", "10.77.7.2", "lladdr", "02:00:00:00:00:01", "dev", "vx0")

        def sent() -> list[str]:
            machine.watch()
            must(PYTHON, "-c", SEND)
            return [each.target for each in machine.seen() if each.device == "cable" and each.port == 4789]

        machine.must("wg-quick", "down", "wg0")
        locked = sent()
        for family in ("inet", "netdev"):
            machine.must("nft", "delete", "table", family, "failshut")
        assert INTERNET4 in sent(), "the control"
        assert locked == []

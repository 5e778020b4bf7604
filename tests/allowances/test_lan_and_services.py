"""The LAN by prefix, interface and service, and services on demand; each with the nearest thing that it is not."""

from __future__ import annotations

import pytest

from grouped import INTERNET4, ROUTER4, UNDERLAY4

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
ROUTER6 = "fd50::1"
# A word to each "protocol host port"; a TCP connection's first packet is all that is needed.
SAY = """
import socket, sys
for site in sys.argv[1:]:
    protocol, host, port = site.split()
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        sock.settimeout(0.3)
        try:
            sock.connect((host, int(port)))
            sock.send(b"word")
        except OSError:
            pass
"""
LAN = '[allow.lan]\nprefixes = ["192.168.50.0/24", "fd50::/64"]\n'


def heard(machine, *sites: str) -> set[tuple[str, str, int]]:
    """Return what of it came to the cable's other end in the clear."""
    machine.watch()
    machine.must(PYTHON, "-c", SAY, *sites)
    return {(each.protocol, each.target, each.port) for each in machine.seen() if each.device == "cable" and each.port}


def test_only_the_listed_services_of_the_lan_are_reached(grouped):
    """A printer's ports by their protocol, in both families; not the port next to it, nor the same by another protocol."""
    grouped.arm(LAN + 'services = ["tcp/631", "tcp/9100-9101", "udp/161"]\n')

    seen = heard(
        grouped,
        *(f"tcp {host} {port}" for host in (ROUTER4, ROUTER6) for port in (630, 631, 9099, 9100, 9101, 9102)),
        *(f"udp {ROUTER4} {port}" for port in (161, 162, 631)),
    )

    tcp = {("tcp", host, port) for host in (ROUTER4, ROUTER6) for port in (631, 9100, 9101)}
    assert seen == {*tcp, ("udp", ROUTER4, 161)}


def test_the_lan_is_reached_by_its_interface_alone(grouped):
    """Another interface's name in the policy: nothing is reached by this one. The control is the same policy without it."""
    grouped.arm(LAN + 'interfaces = ["wlan0"]\n')
    assert heard(grouped, f"tcp {ROUTER4} 631") == set()

    grouped.write("/etc/failshut/failshut.toml", '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n' + LAN)
    assert grouped.failshut("arm").returncode == 0
    assert heard(grouped, f"tcp {ROUTER4} 631", f"udp {ROUTER4} 53") == {("tcp", ROUTER4, 631)}


def test_what_is_on_the_link_stays_on_it_and_what_is_routed_goes_on(grouped):
    """Hop limit 1 to the one, the program's own to the other."""
    grouped.arm('[allow.lan]\nprefixes = ["192.168.50.0/24"]\nrouted = ["192.168.51.0/24"]\n')
    grouped.watch()

    grouped.must(PYTHON, "-c", SAY, f"udp {ROUTER4} 9001", "udp 192.168.51.7 9001", "udp 192.168.52.7 9001")

    hops = {each.target: each.hops for each in grouped.seen() if each.port == 9001 and each.device == "cable"}
    assert hops == {ROUTER4: 1, "192.168.51.7": 64}


# Connects from the server's side; prints whether the service's greeting came.
CALL = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
    sock.settimeout(2)
    sock.bind((sys.argv[3], 0))
    try:
        sock.connect((sys.argv[1], int(sys.argv[2])))
        print(sock.recv(99).decode())
    except OSError:
        print("silence")
"""
GREET = """
import socket, threading
def serve(port):
    with socket.create_server(("", port)) as listening:
        while True:
            connection, _ = listening.accept()
            connection.sendall(b"hello")
            connection.close()
for port in (2222, 2223):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""


def test_a_service_on_demand_answers_only_while_it_is_open(grouped):
    """From the link and from beyond it, also with the tunnel as default route; the port next to it never does."""
    service = '[[allow.inbound]]\nname = "ssh"\nport = 2222\nfrom = ["192.168.50.0/24", "198.51.100.0/24"]\non_demand = true\n'
    grouped.arm(service)
    greeter = grouped.start(PYTHON, "-c", GREET)
    assert greeter.stdout.readline() == "ready\n"

    def answers(port: int = 2222) -> set[str]:
        callers = (ROUTER4, INTERNET4)
        return {grouped.server(PYTHON, "-c", CALL, UNDERLAY4, str(port), caller).strip() for caller in callers}

    assert answers() == {"silence"}
    assert grouped.failshut("allow", "ssh", "--for", "10m").returncode == 0
    assert answers() == {"hello"}
    assert answers(2223) == {"silence"}
    assert grouped.failshut("revoke", "ssh").returncode == 0
    assert answers() == {"silence"}


def test_a_pin_is_open_to_its_control_group_and_to_nobody_else(grouped):
    """A program of the group reaches the address and the port, with the tunnel up; not the next port, nor does another group's.

    The group's socket chose the tunnel's address, so the packet is masqueraded.
    """
    grouped.must("mkdir", "-p", "/sys/fs/cgroup/clock.slice/ntp.slice", "/sys/fs/cgroup/clock.slice/other.slice")
    pin = (
        f'[[allow.outbound]]\nname = "ntp"\nprotocol = "udp"\nto = ["{INTERNET4}"]\nport = 123\ncgroup = "clock.slice/ntp.slice"\n'
    )
    grouped.arm(pin)

    def heard_from(group: str) -> set[tuple[str, str, int]]:
        enter = ("sh", "-c", f'echo 0 >/sys/fs/cgroup/clock.slice/{group}/cgroup.procs && exec "$@"', "sh")
        grouped.watch()
        grouped.must(*enter, PYTHON, "-c", SAY, f"udp {INTERNET4} 123", f"udp {INTERNET4} 124", f"tcp {INTERNET4} 123")
        return {(each.source, each.target, each.port) for each in grouped.seen() if each.device == "cable" and each.port}

    assert heard_from("ntp.slice") == {(UNDERLAY4, INTERNET4, 123)}
    assert heard_from("other.slice") == set()
    for family in ("inet", "netdev"):
        grouped.must("nft", "delete", "table", family, "failshut")
    grouped.must("wg-quick", "down", "wg0")
    assert (UNDERLAY4, INTERNET4, 124) in heard_from("other.slice"), "the control"

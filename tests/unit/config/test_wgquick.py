"""The wg-quick reader, held against wg-quick(8) and wg(8) themselves."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from failshut.config.formats.wgquick import Hook, WgQuickConfig, read
from failshut.model.finding import Code
from failshut.model.units import Endpoint, Mark, NamedEndpoint, Port

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
PEER = f"[Peer]\nPublicKey = {KEY}\n"
SOUND = f"[Interface]\n{PEER}"


def config(text):
    """Return the config of a sound text."""
    found = read(text, "wg0.conf")
    assert isinstance(found, WgQuickConfig), found
    return found


def mistakes(text):
    """Return what is wrong with a text, and where."""
    found = read(text, "wg0.conf")
    assert isinstance(found, list), found
    return [(each.code, each.place.line) for each in found]


def test_a_whole_config_is_read():
    """Every key of wg-quick(8) and wg(8), in one file."""
    text = f"""
# a provider's file
[Interface]
PrivateKey = {KEY}   # never kept
Address = 10.99.0.2/32, fd99::2/128
Address=10.99.0.3
DNS = 10.64.0.1, fd00::53, example.com
MTU = 1380
Table = auto
ListenPort = 51821
FwMark = 0xca6c
SaveConfig = false
PostUp = echo one=two
PreDown = iptables -D OUTPUT

[Peer]
PublicKey = {KEY}
PresharedKey = {KEY}
Endpoint = 203.0.113.10:51820
AllowedIPs = 0.0.0.0/0,::/0
PersistentKeepalive = 25
[Peer]
PublicKey = {KEY}
Endpoint = [2001:db8::10]:51820
AllowedIPs = 10.0.0.1/8
PersistentKeepalive = off
[Peer]
PublicKey = {KEY}
Endpoint = vpn.example.com:51820
"""
    found = config(text)

    assert found.addresses == (ip_interface("10.99.0.2/32"), ip_interface("fd99::2/128"), ip_interface("10.99.0.3/32"))
    assert found.address_line == 5
    assert (found.fwmark, found.fwmark_line, found.listen_port, found.mtu) == (Mark(0xCA6C), 11, 51821, 1380)
    assert found.dns == ("10.64.0.1", "fd00::53", "example.com")
    assert (found.table, found.save, found.has_private_key) == ("auto", False, True)
    assert found.hooks == (Hook("PostUp", "echo one=two", 13), Hook("PreDown", "iptables -D OUTPUT", 14))
    assert [each.endpoint for each in found.peers] == [
        Endpoint(ip_address("203.0.113.10"), Port(51820)),
        Endpoint(ip_address("2001:db8::10"), Port(51820)),
        NamedEndpoint("vpn.example.com", Port(51820)),
    ]
    assert [(each.line, each.endpoint_line) for each in found.peers] == [(16, 19), (22, 24), (27, 29)]
    assert found.peers[0].allowed == (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert [each.keepalive for each in found.peers] == [25, None, None]
    assert found.peers[0].has_preshared_key


# Each is accepted by wg-quick and wg; what they make of it stands beside it.
SPELLINGS = {
    "keys in any case": (f"[INTERFACE]\nfwmark = 1\n[peer]\nPUBLICKEY = {KEY}\n", {"fwmark": Mark(1)}),
    "tabs and no spaces": (f"\t[Interface]\t\n\tFwMark\t=\t1\t\n{PEER}", {"fwmark": Mark(1)}),
    "a file from Windows": (f"[Interface]\nMTU = 1380\nFwMark = 1\n{PEER}".replace("\n", "\r\n"), {"fwmark": Mark(1), "mtu": 1380}),
    "no newline at the end": (f"{PEER}[Interface]\nFwMark = 1", {"fwmark": Mark(1)}),
    "a comment behind a value": (f"[Interface] # one\nFwMark = 1#2\n{PEER}", {"fwmark": Mark(1)}),
    "white space inside, which wg drops": (f"[Interface]\nFw Mark = 0x c a\n{PEER}", {"fwmark": Mark(0xCA)}),
    "no mark": (f"[Interface]\nFwMark = OFF\n{PEER}", {"fwmark": None}),
    "a mark of zero": (f"[Interface]\nFwMark = 0\n{PEER}", {"fwmark": None}),
    "leading zeros, which are decimal": (f"[Interface]\nFwMark = 010\n{PEER}", {"fwmark": Mark(10)}),
    "the last of two wins": (f"[Interface]\nFwMark = 1\nFwMark = 2\n{PEER}", {"fwmark": Mark(2)}),
    "two [Interface] sections": (f"[Interface]\nMTU = 1\n{PEER}[Interface]\nFwMark = 2\n", {"fwmark": Mark(2), "mtu": 1}),
    "no peer": ("[Interface]\n", {"peers": ()}),
    "a byte that is no UTF-8, in a comment": ("[Interface]\n# caf\udce9\nFwMark = 1\n", {"fwmark": Mark(1)}),
    "a value that holds '='": (f"[Interface]\nPostUp = a=b\n{PEER}", {"hooks": (Hook("PostUp", "a=b", 2),)}),
}

# Each is refused by wg-quick or wg: code, line.
REFUSED = {
    "a key that nobody knows": ("[Interface]\nFwMarc = 1\n", (Code.CONFIG_BAD_LINE, 2)),
    "a peer's key in the interface": ("[Interface]\nEndpoint = 203.0.113.1:1\n", (Code.CONFIG_BAD_LINE, 2)),
    "an interface's key in the peer": (f"[Interface]\n{PEER}Address = 10.0.0.1\n", (Code.CONFIG_BAD_LINE, 4)),
    "a line without '='": ("[Interface]\nhello\n", (Code.CONFIG_BAD_LINE, 2)),
    "a line before any section": ("FwMark = 1\n[Interface]\n", (Code.CONFIG_BAD_LINE, 1)),
    "another section": ("[Interface]\n[Pear]\n", (Code.CONFIG_BAD_LINE, 2)),
    "a mark in upper-case hex": ("[Interface]\nFwMark = 0Xca6c\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a mark of more than 32 bits": ("[Interface]\nFwMark = 0x100000000\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a negative mark": ("[Interface]\nFwMark = -1\n", (Code.CONFIG_BAD_VALUE, 2)),
    "an empty mark": ("[Interface]\nFwMark =\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a port that is no number": ("[Interface]\nListenPort = no/port\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a short key": ("[Interface]\nPrivateKey = abc=\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a key of 32 bytes and 2 bits": (f"[Interface]\nPrivateKey = {KEY[:-2]}R=\n", (Code.CONFIG_BAD_VALUE, 2)),
    "an endpoint without a port": (f"{SOUND}Endpoint = 203.0.113.1\n", (Code.CONFIG_BAD_VALUE, 4)),
    "an endpoint with an empty port": (f"{SOUND}Endpoint = 203.0.113.1:\n", (Code.CONFIG_BAD_VALUE, 4)),
    "an IPv6 endpoint without a port": (f"{SOUND}Endpoint = [2001:db8::1]\n", (Code.CONFIG_BAD_VALUE, 4)),
    "a keepalive that is none": (f"{SOUND}PersistentKeepalive = soon\n", (Code.CONFIG_BAD_VALUE, 4)),
    "a keepalive too long": (f"{SOUND}PersistentKeepalive = 65536\n", (Code.CONFIG_BAD_VALUE, 4)),
    "an allowed address that is none": (f"{SOUND}AllowedIPs = 10.0.0.0/33\n", (Code.CONFIG_BAD_VALUE, 4)),
    "an allowed address too few": (f"{SOUND}AllowedIPs = 10.0.0.0/8,\n", (Code.CONFIG_BAD_VALUE, 4)),
    "no allowed address": (f"{SOUND}AllowedIPs =\n", (Code.CONFIG_BAD_VALUE, 4)),
    "an allowed name": (f"{SOUND}AllowedIPs = localhost\n", (Code.CONFIG_BAD_VALUE, 4)),
    "a peer without a public key": ("[Interface]\n[Peer]\n", (Code.CONFIG_BAD_VALUE, 2)),
    "a byte-order mark": ("\ufeff[Interface]\n", (Code.CONFIG_NOT_WG, 1)),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_what_wg_accepts_is_read_as_wg_reads_it(case):
    """A config that brings the tunnel up must never be misread by the lock."""
    text, expected = SPELLINGS[case]
    found = config(text.encode("utf-8", errors="surrogateescape"))

    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("case", REFUSED)
def test_what_wg_refuses_is_a_finding_at_its_line(case):
    """A tunnel that can't come up is said before the lock is armed, not at the next boot."""
    text, expected = REFUSED[case]

    assert mistakes(text) == [expected]


@pytest.mark.skipif(not shutil.which("wg"), reason="wg is not installed: its own parser can't be asked")
@pytest.mark.parametrize("case", [*SPELLINGS, *REFUSED])
def test_wg_itself_agrees(case, tmp_path):
    """The oracle: wg-quick's own strip, then wg's own parser, which fails with other words when the text was fine."""
    text = (SPELLINGS.get(case) or REFUSED[case])[0]
    file = tmp_path / "fs0.conf"
    file.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    strip = subprocess.run(["wg-quick", "strip", str(file)], capture_output=True, check=False)
    stripped = tmp_path / "stripped"
    stripped.write_bytes(strip.stdout)
    # No such interface: wg reads the whole file first and only then asks the kernel for it.
    answer = subprocess.run(["wg", "setconf", "failshut-none", str(stripped)], capture_output=True, text=True, check=False)

    assert ("Unable to modify interface" in answer.stderr) == (case in SPELLINGS), answer.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Interface]\nSaveConfig = maybe\n", (Code.CONFIG_BAD_VALUE, 2)),
        ("[Interface]\nAddress = 10.0.0.300\n", (Code.CONFIG_BAD_VALUE, 2)),
        ("[Interface]\nAddress\n", (Code.CONFIG_BAD_LINE, 2)),
        ("[Interface]\nMTU = big\n", (Code.CONFIG_BAD_VALUE, 2)),
        ("[Interface]\n\0", (Code.CONFIG_NOT_WG, 0)),
        ("", (Code.CONFIG_NO_INTERFACE, 0)),
        ("# nothing\n", (Code.CONFIG_NO_INTERFACE, 0)),
        # wg takes these modulo 65536: a port that nobody wrote.
        ("[Interface]\nListenPort = 99999\n", (Code.CONFIG_BAD_VALUE, 2)),
        (f"{SOUND}Endpoint = 203.0.113.1:99999\n", (Code.CONFIG_BAD_VALUE, 4)),
        (f"{SOUND}Endpoint = 203.0.113.1:http\n", (Code.CONFIG_BAD_VALUE, 4)),
    ],
)
def test_what_fails_later_than_in_wg_s_parser_is_found_too(text, expected):
    """These pass wg's parser or never reach it, and then stop wg-quick, `ip address` or the lock."""
    assert mistakes(text) == [expected]


def test_all_mistakes_are_found_at_once():
    """The first one, where wg stops, hides no other."""
    assert mistakes(f"[Interface]\nMTU = x\nFoo = 1\n{PEER}Endpoint = y\n") == [
        (Code.CONFIG_BAD_VALUE, 2),
        (Code.CONFIG_BAD_LINE, 3),
        (Code.CONFIG_BAD_VALUE, 6),
    ]


def test_a_misspelt_key_is_suggested():
    """The remedy is the right spelling."""
    found = read("[Interface]\nAdress = 10.0.0.1\n", "wg0.conf")

    assert found[0].help == "did you mean Address?"


@pytest.mark.parametrize(
    "text",
    [
        f"[Interface]\nPrivateKey = {KEY}\nFoo = 1\n",
        f"[Interface]\nPrivateKye = {KEY}\n",
        f"[Interface]\nPrivateKey {KEY}\n",
        f"[Interface]\n{KEY}\n",
        f"[Interface]\nPrivateKey = {KEY[:-1]}\n",
        f"[Interface]\nPrivateKey = {KEY}{KEY}\n",
        f"PrivateKey = {KEY}\n",
        f"[Interface]\nFwMark = {KEY}\n",
        f"[Interface]\nMTU = x # {KEY}\n",
        f"[Interface]\nPostUp = wg set %i private-key {KEY}\n",
        f"[{KEY}]\n",
        f"[Interface]\n[Peer]\nPresharedKey = {KEY}\nPublicKey = {KEY[:40]}\n",
    ],
)
def test_no_key_is_ever_shown(text):
    """Wherever a key was put by mistake, neither a finding nor a repr may carry twelve characters of it."""
    shown = repr(read(text, "wg0.conf"))

    assert not any(KEY[start : start + 12] in shown for start in range(len(KEY) - 12))


def test_a_sound_config_keeps_no_key():
    """Not in the config's repr, and not in the lines it keeps for later findings."""
    found = config(f"[Interface]\nPrivateKey = {KEY}\n{PEER}PresharedKey = {KEY}\n")

    assert KEY not in repr(found)
    assert not any(KEY in line for line in found.source.lines)

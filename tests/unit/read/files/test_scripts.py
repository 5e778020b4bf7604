"""What is no ruleset is told by its looks, and what of it can be run to make rules."""

from __future__ import annotations

import pytest

from failshut.model.finding import Code
from failshut.read import read_ruleset
from failshut.read.files.scripts import script_of
from failshut.read.foreign import foreign

CONFIG = """[Interface]
PrivateKey = x
PreUp = echo before
PostUp = iptables -I OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark) -j REJECT
PreDown = iptables -D OUTPUT -j REJECT

[Peer]
Endpoint = 203.0.113.7:51820
"""
UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=-/usr/sbin/iptables -A OUTPUT -o eth0 -j DROP\nExecStop=/usr/sbin/iptables -F\n"
XML = '<?xml version="1.0"?>\n<direct><rule>-o tun0 -j ACCEPT</rule></direct>\n'
LISTED = "Chain OUTPUT (policy DROP 0 packets, 0 bytes)\n pkts bytes target\n"

FOREIGN = {
    "a script": ("#!/bin/bash\nVPN=tun0\niptables -A OUTPUT -o $VPN -j ACCEPT\n", 1, "script"),
    "a script around iptables-restore": ("set -e\niptables-restore <<X\n*filter\n:OUTPUT DROP\nCOMMIT\nX\n", 2, "commands"),
    "a script around nft": ("#!/bin/sh\nnft -f - <<X\ntable inet t {\n}\nX\n", 1, "script"),
    "commands": ("# a guide's\niptables -P OUTPUT DROP\n", 2, "commands"),
    "commands with sudo": ("$ sudo /sbin/ip6tables -w -A OUTPUT -j DROP\n", 1, "commands"),
    "commands by a variable": ("IPT=iptables\n${IPT} -A OUTPUT -j DROP\n", 2, "commands"),
    "commands of nft": ("nft add table inet t\nnft 'add chain inet t o { type filter hook output priority 0; }'\n", 1, "commands"),
    "commands of ufw": ("ufw default deny outgoing\nufw allow out on tun0\n", 1, "commands"),
    "what goes into nft": ('rules="table inet t {\n}"\necho "$rules" | sudo nft -f -\n', 3, "commands"),
    "ferm's configuration": ("domain (ip ip6) {\n  table filter chain OUTPUT {\n    policy DROP;\n  }\n}\n", 3, "ferm"),
    "rules for ufw": ("*filter\n:ufw-before-output - [0:0]\n-A ufw-before-output -o eth0 -j DROP\nCOMMIT\n", 1, "ufw"),
    "a tunnel's config": (CONFIG, 1, "tunnel"),
    "a line of a tunnel's config": ("PostUp = iptables -I OUTPUT -j REJECT\n", 1, "tunnel"),
    "a unit": (UNIT, 1, "systemd"),
    "firewalld's XML": (XML, 1, "XML"),
    "OpenWrt's configuration": ("\nconfig zone\n\toption name 'wan'\n", 2, "OpenWrt"),
    "what ufw says": ("Status: active\n\nTo   Action\n", 1, "ufw status"),
    "a listing for people": (LISTED, 1, "iptables -L"),
    "a script without its first line": (
        "both() {\n  for each in 4 6; do run $each; done\n}\nboth -P OUTPUT DROP\n",
        1,
        "first line",
    ),
    "what another command prints": ('S=$(dig +short vpn.example.com)\nip rule add to "$S" table 7\n', 1, "first line"),
    "sets of ipset": ("create wl hash:net family inet\nadd wl 198.51.100.0/24\n", 1, "ipset save"),
    "a chain of a listing": (
        "\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t}\n",
        1,
        "without its table",
    ),
    "rules of a listing": ('# mine\noifname "lo" accept\ndrop\n', 1, "without their chain"),
    "a module of NixOS": ("{ config, pkgs, ... }:\n{\n  networking.nftables.enable = true;\n}\n", 1, "NixOS"),
    "Ansible": ("---\n- name: lock\n  hosts: all\n", 2, "Ansible"),
    "a page": ("# Kill switch\n\n```nft\ntable inet t {\n}\n```\n", 3, "page"),
    "Docker Compose": ("services:\n  vpn:\n    command: iptables -P OUTPUT DROP\n", 1, "Compose"),
}
RULESETS = (
    "#!/usr/sbin/nft -f\ntable inet t {\n}\n",
    "#!/usr/sbin/iptables-restore\n*filter\n:OUTPUT DROP [0:0]\nCOMMIT\n",
    '# iptables -A OUTPUT -j DROP\n*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -m comment --comment "ufw allow out" -j ACCEPT\nCOMMIT\n',
    "*filter\n:INPUT DROP [0:0]\n:OUTPUT DROP [0:0]\n:ufw-before-output - [0:0]\n-A OUTPUT -j ufw-before-output\nCOMMIT\n",
    "add table ip t\nchain t o {\n}\n",
    "define LAN = { 10.0.0.0/8 }\ntable inet t {\n\tset a {\n\t\ttype ipv4_addr\n\t\telements = {\n$LAN }\n\t}\n}\n",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_ruleset_is_named_with_a_remedy(name):
    """It is one error, and never read as rules that refuse nothing."""
    text, line, named = FOREIGN[name]
    (finding,) = read_ruleset(text.encode(), "file").findings

    assert (finding.code, finding.place.line) == (Code.RULES_UNREADABLE, line)
    assert named in finding.message
    assert "iptables-save" in finding.help or "rules" in finding.help


@pytest.mark.parametrize("text", RULESETS)
def test_a_ruleset_is_not_taken_for_something_else(text):
    """Whatever stands in its comments, and whoever its first line names."""
    assert foreign(text) is None
    assert read_ruleset(text.encode(), "file").findings == ()


def test_a_tunnels_hooks_are_run_for_the_tunnel_that_the_file_is_named_for():
    """Those that bring it up, in their order."""
    script = script_of(CONFIG, "/etc/wireguard/wg7.conf")

    assert script is not None
    assert script.text.decode().splitlines() == [
        "echo before",
        "iptables -I OUTPUT ! -o wg7 -m mark ! --mark $(wg show wg7 fwmark) -j REJECT",
    ]
    assert (script.interpreter, script.devices) == ("bash", ("wg7",))


@pytest.mark.parametrize("text", [CONFIG, UNIT, "iptables -P OUTPUT DROP\niptables -A OUTPUT -o lo -j ACCEPT\n"])
def test_windows_ends_of_lines_are_none_of_a_hook_s_last_word(text):
    """As wg-quick, systemd and a terminal take them. Of a script the kernel does not: it stays as it is."""
    script = "#!/bin/sh\r\niptables -P OUTPUT DROP\r\n"
    told, as_it_is = script_of(text.replace("\n", "\r\n"), "wg7.conf"), script_of(script, "ks")

    assert told == script_of(text, "wg7.conf")
    assert as_it_is is not None
    assert as_it_is.text.decode() == script


def test_a_config_of_a_name_that_no_device_can_have_is_a_tunnels_all_the_same():
    """Whoever saved it from a page did not know: IFNAMSIZ is 16."""
    script = script_of("PostUp = iptables -I OUTPUT ! -o %i -j REJECT\n", "somebody's config (1).conf")

    assert script is not None
    assert script.devices == ("wg0",)


@pytest.mark.parametrize(
    "line",
    [
        "TOR_UID=tor",
        "_vpn_user='tor'",
        'uid="$(id -u tor)"',
        "getent group tor",
        'OWNER="${OWNER:-tor}"',
        "nft add rule t o skuid != tor",
    ],
)
def test_a_user_that_a_variable_holds_is_known(line):
    """Without an account of that name the command that names it would fail, and its rule be missing."""
    script = script_of(f"{line}\niptables -A OUTPUT -j DROP\n", "ks")

    assert script is not None
    assert script.users == ("tor",)


def test_a_unit_is_run_by_what_starts_it():
    """Without the signs before a command, and without what stops it."""
    script = script_of(UNIT, "ks.service")

    assert script is not None
    assert script.text == b"/usr/sbin/iptables -A OUTPUT -o eth0 -j DROP\n"


def test_a_script_is_run_as_it_is_and_prompts_are_no_part_of_commands():
    """By its first line, else by a shell; the users that it names are known."""
    text = "#!/bin/bash\nIFACE=tun5\niptables -A OUTPUT -m owner --uid-owner torrents -j REJECT\n"
    script, commands = script_of(text, "ks"), script_of("$ nft list ruleset\n", "-")

    assert script is not None
    assert commands is not None
    assert (script.text.decode(), script.interpreter, script.devices, script.users) == (text, "", ("tun5",), ("torrents",))
    assert (commands.text, commands.interpreter) == (b"nft list ruleset\n", "bash")


@pytest.mark.parametrize("text", [*RULESETS, XML, LISTED, "Status: active\n", "good day\n"])
def test_what_makes_no_rules_is_not_run(text):
    """A ruleset is given as such."""
    assert script_of(text, "file") is None


def test_hosts_are_those_that_rules_may_name():
    """Neither a file, nor what a comment, a path or a URL names, nor what nobody knows (RFC 2606)."""
    text = (
        "# see www.example.net\nS=$(dig +short vpn.example.com) # EU\ncurl https://api.example.org/x\n. /etc/ks.conf\n"
        "iptables -A OUTPUT -d a.b.example.com,vpn.example.com -j ACCEPT; nft -f ks.nft; ping no.invalid\n"
    )
    script = script_of(text, "ks.sh")

    assert script is not None
    assert script.hosts == ("vpn.example.com", "a.b.example.com")


@pytest.mark.parametrize("said", ["--uid-owner $WHO", '--uid-owner "${WHO}"', "--gid-owner $WHO"])
def test_a_user_that_rules_name_by_a_variable_is_its_value(said):
    """Whatever the variable is called."""
    script = script_of(f"WHO=torrents\niptables -A OUTPUT -m owner {said} -j DROP\n", "ks.sh")

    assert script is not None
    assert script.users == ("torrents",)

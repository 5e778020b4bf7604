"""From a declaration and what was fetched for it to the policy, or to what forbids one."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from failshut.config.declaration import Declaration, Sources, Unreadable, Unresolved
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.model.finding import Code
from failshut.model.policy import Inbound, Lan, Outbound, Policy, Tailscale, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol

EXAMPLES = Path(__file__).parents[3] / "src/failshut/examples"
KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
TUNNEL = '[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\n'
CONFIG = '[tunnel.wg0]\nconfig = "wg0.conf"\n'


def wg(interface="", endpoint="203.0.113.10:51820", allowed="0.0.0.0/0"):
    """Return a wg-quick config; `interface` goes into [Interface], line 3."""
    peer = f"[Peer]\nPublicKey = {KEY}\n" + (f"Endpoint = {endpoint}\n" if endpoint else "") + f"AllowedIPs = {allowed}\n"
    return f"[Interface]\nPrivateKey = {KEY}\n{interface}\n{peer}".encode()


def check(text, **sources):
    """Check a policy against what was fetched for it."""
    declaration = parse(text, "p.toml")
    assert isinstance(declaration, Declaration), declaration
    return resolve(declaration, Sources(**sources))


def codes(checked):
    """Return what was found, and where."""
    return [(each.code, each.place.file, each.place.line) for each in checked.findings]


def test_the_bundled_example_is_sound_and_says_what_the_drill_needs():
    """The example is what `make drill` rehearses: no finding, and these very addresses."""
    declaration = parse((EXAMPLES / "example.toml").read_bytes(), str(EXAMPLES / "example.toml"))
    checked = resolve(declaration, Sources(files={each: Path(each).read_bytes() for each in declaration.files}))

    assert checked.findings == ()
    assert checked.policy == Policy(
        tunnels=(
            Tunnel(
                InterfaceName("wg0"),
                (
                    Endpoint(ip_address("203.0.113.10"), Port(51820)),
                    Endpoint(ip_address("2001:db8::10"), Port(51820)),
                ),
                fwmark=Mark(0xCA6C),
                addresses=(ip_interface("10.99.0.2/32"), ip_interface("fd99::2/128")),
                config=str(EXAMPLES / "wg0.conf"),
                fwmark_in_config=True,
            ),
        ),
        lan=Lan((ip_network("192.168.50.0/24"), ip_network("fd50::/64"))),
        inbound=(
            Inbound(
                "ssh",
                Protocol.TCP,
                Port(22),
                tuple(map(ip_network, ("192.168.50.0/24", "198.51.100.0/24", "2001:db8:51::/64", "fd50::/64"))),
            ),
        ),
    )


def test_what_the_policy_says_replaces_what_the_config_says():
    """The user's own words win over the provider's file."""
    text = CONFIG + 'endpoints = ["tcp://198.51.100.1:443"]\naddresses = ["10.1.1.1"]\n'
    tunnel = check(text, files={"wg0.conf": wg("Address = 10.99.0.2")}).policy.tunnels[0]

    assert tunnel.endpoints == (Endpoint(ip_address("198.51.100.1"), Port(443), Protocol.TCP),)
    assert tunnel.addresses == (ip_interface("10.1.1.1/32"),)
    assert not tunnel.fwmark_in_config


def test_a_name_becomes_an_endpoint_for_each_of_its_addresses():
    """The provider may answer with any of them."""
    answers = {"vpn.example.com": (ip_address("203.0.113.10"), ip_address("2001:db8::10"))}
    checked = check('[tunnel.wg0]\nendpoints = ["vpn.example.com:51820", "203.0.113.10:51820"]\n', names=answers)

    assert [str(each) for each in checked.policy.tunnels[0].endpoints] == ["203.0.113.10:51820", "[2001:db8::10]:51820"]


def test_a_name_that_does_not_resolve_is_an_error_at_its_place():
    """Armed without it, the tunnel could never come up."""
    checked = check('[tunnel.wg0]\nendpoints = ["vpn.example.com:51820"]\n', names={"vpn.example.com": Unresolved("no answer")})

    assert checked.policy is None
    assert codes(checked) == [(Code.UNRESOLVED_NAME, "p.toml", 2)]
    assert "/etc/hosts" in checked.findings[0].help


def test_a_name_in_the_config_that_does_not_resolve_is_an_error_in_the_config():
    """The place is where the user has to write."""
    checked = check(CONFIG, files={"wg0.conf": wg(endpoint="vpn.example.com:1")}, names={"vpn.example.com": Unresolved("no")})

    assert (Code.UNRESOLVED_NAME, "wg0.conf", 6) in codes(checked)


def test_a_name_in_the_config_is_warned_of_with_the_lines_for_etc_hosts():
    """wg-quick looks the name up itself; the lock refuses that lookup at boot."""
    answers = {"vpn.example.com": (ip_address("203.0.113.10"), ip_address("2001:db8::10"))}
    checked = check(CONFIG, files={"wg0.conf": wg(endpoint="vpn.example.com:51820")}, names=answers)

    assert codes(checked) == [(Code.CONFIG_NAME_NEEDS_DNS, "wg0.conf", 6)]
    assert '"203.0.113.10 vpn.example.com", "2001:db8::10 vpn.example.com"' in checked.findings[0].help
    assert checked.policy.tunnels[0].named_endpoints == ("vpn.example.com",)


def test_a_name_that_etc_hosts_knows_needs_no_warning():
    """Its lookup needs no DNS."""
    answers = {"vpn.example.com": (ip_address("203.0.113.10"),)}
    files = {"wg0.conf": wg(endpoint="vpn.example.com:51820")}
    checked = check(CONFIG, files=files, names=answers, pinned=frozenset({"vpn.example.com"}))

    assert checked.findings == ()
    assert checked.policy.tunnels[0].named_endpoints == ()


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("[allow]\ndhcp = true\n", {}, [(Code.NO_TUNNEL, "p.toml", 0)]),
        ("[tunnel.wg0]\n", {}, [(Code.NO_ENDPOINT, "p.toml", 1)]),
        ("[tunnel.wg0]\nendpoints = []\n", {}, [(Code.NO_ENDPOINT, "p.toml", 1)]),
        (CONFIG, {"wg0.conf": wg(endpoint="")}, [(Code.CONFIG_NO_ENDPOINT, "wg0.conf", 4)]),
        (CONFIG, {"wg0.conf": b"[Interface]\nFwMark = 1\n"}, [(Code.CONFIG_NO_ENDPOINT, "wg0.conf", 0)]),
        (CONFIG, {"wg0.conf": Unreadable("there is no such file")}, [(Code.CONFIG_UNREADABLE, "p.toml", 2)]),
        (CONFIG, {"wg0.conf": Unreadable("permission denied", denied=True)}, [(Code.NO_PRIVILEGE, "p.toml", 2)]),
        (CONFIG, {"wg0.conf": b"[Interface]\nAdress = 1\n"}, [(Code.CONFIG_BAD_LINE, "wg0.conf", 2)]),
        (CONFIG, {"wg0.conf": wg("PostUp = /sbin/iptables -I OUTPUT -j DROP")}, [(Code.CONFIG_OWN_FIREWALL, "wg0.conf", 3)]),
        (CONFIG, {"wg0.conf": wg("PreDown = ufw disable")}, [(Code.CONFIG_OWN_FIREWALL, "wg0.conf", 3)]),
        (CONFIG, {"wg0.conf": wg("PostUp = echo nftables-like > /tmp/x")}, []),
        (CONFIG, {"wg0.conf": wg(allowed="10.0.0.0/8")}, [(Code.CONFIG_NOT_FULL, "wg0.conf", 4)]),
        (CONFIG, {"wg0.conf": wg(allowed="0.0.0.0/1, 128.0.0.0/1")}, []),
        (CONFIG, {"wg0.conf": wg("Table = off", allowed="10.0.0.0/8")}, []),
        ('[tunnel.wg1]\nconfig = "wg0.conf"\n', {"wg0.conf": wg()}, [(Code.CONFIG_OTHER_NAME, "p.toml", 2)]),
        (CONFIG + "fwmark = 7\n", {"wg0.conf": wg("FwMark = 8")}, [(Code.CONTRADICTION, "p.toml", 3)]),
        (CONFIG, {"wg0.conf": wg("FwMark = 0x10000001")}, [(Code.CONTRADICTION, "p.toml", 1)]),
        (TUNNEL + "fwmark = 0x10000000\n", {}, [(Code.CONTRADICTION, "p.toml", 3)]),
        (TUNNEL + "fwmark = 0x01000000\n", {}, [(Code.CONTRADICTION, "p.toml", 3)]),
        (TUNNEL + "fwmark = 0x80000000\n", {}, []),
        ('[tunnel.wg0]\nendpoints = ["127.0.0.1:51820"]\n', {}, [(Code.BAD_ENDPOINT, "p.toml", 1)]),
    ],
)
def test_a_tunnel_that_could_not_work_behind_the_lock_is_found(text, files, expected):
    """Each of these would leave the user without a network, or with two locks."""
    assert codes(check(text, files=files)) == expected


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("0.0.0.0/0", Code.TOO_WIDE),
        ("::/0", Code.TOO_WIDE),
        ("0.0.0.0/1", Code.TOO_WIDE),
        ("10.0.0.0/7", Code.TOO_WIDE),
        ("fc00::/7", Code.TOO_WIDE),
        ("203.0.113.0/24", Code.CONTRADICTION),
        ("203.0.113.10", Code.CONTRADICTION),
        ("10.99.0.0/16", Code.CONTRADICTION),
        ("224.0.0.0/4", Code.BAD_VALUE),
        ("ff02::/16", Code.BAD_VALUE),
        ("127.0.0.0/8", Code.BAD_VALUE),
    ],
)
def test_a_lan_prefix_that_would_open_the_lock_is_an_error(prefix, code):
    """A LAN is a network of one's own: not the Internet, not the endpoint, not the tunnel."""
    text = f'[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\naddresses = ["10.99.0.2/32"]\n[allow.lan]\nprefixes = ["{prefix}"]\n'
    checked = check(text)

    assert checked.policy is None
    assert [(each.code, each.place.line) for each in checked.errors] == [(code, 5)]


def test_a_contradiction_names_both_places():
    """The user must see which two lines disagree."""
    found = check(TUNNEL + '[allow.lan]\nprefixes = ["203.0.113.0/24"]\n').errors[0]

    assert found.place.line == 4
    assert "p.toml:2" in found.message


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fd00::/16", "fe80::/64"])
def test_a_private_lan_is_accepted_in_silence(prefix):
    """The widest networks that people have at home and at work."""
    assert check(TUNNEL + f'[allow.lan]\nprefixes = ["{prefix}"]\n').findings == ()


@pytest.mark.parametrize("prefix", ["8.8.8.0/24", "2001:db8::/32", "198.18.0.0/15"])
def test_a_public_lan_is_warned_of(prefix):
    """TunnelCrack LocalNet: a hostile Wi-Fi hands out the addresses of the site it wants to see."""
    checked = check(TUNNEL + f'[allow.lan]\nprefixes = ["{prefix}"]\n')

    assert [each.code for each in checked.warnings] == [Code.PUBLIC_LAN]
    assert checked.policy is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[allow.lan]\nprefixes = ["192.168.1.0/24"]\ninterfaces = ["wg*"]\n', Code.CONTRADICTION),
        ('[allow.lan]\nprefixes = ["192.168.1.0/24"]\ninterfaces = ["ETH0"]\n', Code.BAD_VALUE),
        ('[[allow.inbound]]\nname = "a"\nport = 22\n[[allow.inbound]]\nname = "b"\nport = 22\n', Code.CONTRADICTION),
        ('[[allow.inbound]]\nname = "a"\nport = 22\n[[allow.inbound]]\nname = "a"\nport = 23\n', Code.CONTRADICTION),
        ('[[allow.outbound]]\nname = "a"\nprotocol = "udp"\nto = ["0.0.0.0/0"]\nport = 123\n', Code.TOO_WIDE),
        ("[allow.tailscale]\ntcp = [443, 53]\n", Code.CONTRADICTION),
        ("[allow.tailscale]\ntcp = [853]\n", Code.CONTRADICTION),
        ('[allow.tailscale]\nservers = ["192.0.2.1", "::/0"]\n', Code.TOO_WIDE),
        ("fwmark = 0x80001\n[allow.tailscale]\n", Code.CONTRADICTION),
        ('[[allow.outbound]]\nname = "a"\nprotocol = "udp"\nto = ["203.0.113.10"]\nport = 51820\n', Code.CONTRADICTION),
        (
            '[[allow.outbound]]\nname = "a"\nprotocol = "udp"\nto = ["192.0.2.1"]\nport = 1\nuser = "nobody-here"\n',
            Code.UNKNOWN_USER,
        ),
    ],
)
def test_an_allowance_that_contradicts_itself_is_found(text, expected):
    """One finding, with its code."""
    assert [each.code for each in check(TUNNEL + text).findings] == [expected]


def test_an_empty_tailscale_table_is_enough():
    """tailscaled's own port, HTTPS to any server; a mark that only shares a bit with tailscaled's is no contradiction."""
    checked = check(TUNNEL + "fwmark = 0x480001\n[allow.tailscale]\n")

    assert checked.findings == ()
    assert checked.policy.tailscale == Tailscale(Port(41641), (Port(443),), ())
    assert checked.policy.interfaces == ("wg0", "tailscale0")


def test_a_service_may_use_one_port_for_both_protocols():
    """TCP 53 and UDP 53 are two services."""
    text = '[[allow.inbound]]\nname = "a"\nport = 53\n[[allow.inbound]]\nname = "b"\nport = 53\nprotocol = "udp"\n'

    assert check(TUNNEL + text).findings == ()


def test_another_port_of_the_endpoint_s_machine_may_be_allowed():
    """Only the endpoint itself belongs to the tunnel alone."""
    text = '[[allow.outbound]]\nname = "a"\nprotocol = "tcp"\nto = ["203.0.113.10"]\nport = 443\nuser = 1000\n'

    assert check(TUNNEL + text).policy.outbound == (Outbound("a", Protocol.TCP, (ip_network("203.0.113.10/32"),), Port(443), 1000),)


def test_a_user_becomes_a_number():
    """At load time nft would resolve the name, and refuse the whole file at a boot where it can't."""
    text = '[[allow.outbound]]\nname = "a"\nprotocol = "udp"\nto = ["192.0.2.1"]\nport = 123\nuser = "ntp"\n'

    assert check(TUNNEL + text, users={"ntp": 107}).policy.outbound[0].uid == 107


def test_overlapping_prefixes_and_patterns_are_merged():
    """A set whose intervals overlap is refused by nft, and with it the whole file."""
    text = (
        '[allow.lan]\nprefixes = ["192.168.0.0/16", "192.168.1.0/24", "fd50::/64"]\ninterfaces = ["wl*", "wlan0", "eth0", "eth0"]\n'
    )
    lan = check(TUNNEL + text).policy.lan

    assert lan.prefixes == (ip_network("192.168.0.0/16"), ip_network("fd50::/64"))
    assert lan.interfaces == ("wl*", "eth0")


def test_a_broken_part_causes_no_second_finding():
    """A tunnel whose only endpoint is misspelt must not also be told that it has none."""
    assert [each.code for each in check('[tunnel.wg0]\nendpoints = ["203.0.113.10"]\n').findings] == [Code.BAD_ENDPOINT]


def test_mistakes_of_both_files_are_shown_in_one_run():
    """The policy's first, then the config's."""
    checked = check(CONFIG + "fwmrk = 1\n", files={"wg0.conf": b"[Interface]\nMTU = x\n[Pear]\n"})

    assert [(each.place.file, each.place.line) for each in checked.findings] == [("p.toml", 3), ("wg0.conf", 2), ("wg0.conf", 3)]


@pytest.mark.parametrize(
    ("port", "extra", "codes"), [(22, "", []), (51413, "", [Code.OPEN_SERVICE]), (51413, 'from = ["10.0.0.0/8"]', [])]
)
def test_a_service_for_everyone_on_a_port_of_any_program_is_warned_of(port, extra, codes):
    """A forged call makes an answer out of what such a program wants to say; on a privileged port only root can hold it."""
    checked = check(TUNNEL + f'[[allow.inbound]]\nname = "x"\nprotocol = "udp"\nport = {port}\n{extra}\n')

    assert [each.code for each in checked.warnings] == codes
    assert checked.policy is not None

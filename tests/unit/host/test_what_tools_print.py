"""What the machine's tools print, read without running them."""

from __future__ import annotations

import pytest

from failshut.arming.armed.words import tunnel_words
from failshut.host.network import probe
from failshut.host.network.links import called_bridges, impostors, underlay_devices
from failshut.host.self import why_no_unit
from failshut.host.tunnels.wireguard import parse_dump
from failshut.model.units import InterfaceName, Mark, Port


def link(name, kind="", slave="", flags=("UP",)):
    info = {key: value for key, value in (("info_kind", kind), ("info_slave_kind", slave)) if value}
    return {"ifname": name, "flags": list(flags), "linkinfo": info}


def test_the_layer_under_ip_guards_what_can_carry_a_frame_off_the_machine():
    """Cards, bridges, VLANs, the veth of a container we are in; not loopback, tunnels, guests' ports, dummies, unsayable names."""
    links = [
        link("lo", flags=("LOOPBACK",)),
        link("eth0"),
        link("eth0.20", "vlan"),
        link("br0", "bridge"),
        link("host0", "veth"),
        link("wg0", "wireguard"),
        link("vethguest", "veth", slave="bridge"),
        link("tap1", "tun", slave="bridge"),
        link("enp3s0", slave="bridge"),
        link("dummy0", "dummy"),
        link('we"ird'),
    ]

    assert underlay_devices(links, {"wg0"}) == ("eth0", "eth0.20", "br0", "host0", "enp3s0")


def test_what_only_has_a_tunnel_s_name_or_a_bridge_s_is_underlay():
    links = [{**link("wg0"), "link_type": "ether"}, {**link("wg1", "wireguard"), "link_type": "none"}, link("br-lan.5", "vlan")]
    modems = [
        {**link("wg0", "ppp"), "link_type": "ppp"},
        {**link("wg1", "wwan"), "link_type": "none"},
        {**link("wg2"), "link_type": "none"},
        {**link("wg3", "tun"), "link_type": "none"},
    ]

    assert impostors(links, {"wg0", "wg1"}) == ("wg0",)
    assert impostors(modems, {"wg0", "wg1", "wg2", "wg3"}) == ("wg0", "wg1", "wg2")
    assert underlay_devices(links, {"wg0", "wg1"}, ("br-*",), {"wg0", "wg1"}) == ("wg0", "br-lan.5")
    assert underlay_devices(links, {"wg0", "wg1"}, ("br-*",)) == ("br-lan.5",), "nothing is known of them"
    assert called_bridges(("eth0", "br-lan.5"), ("br-*",)) == ("br-lan.5",)


def test_the_dump_gives_marks_and_the_age_of_the_handshake():
    """`wg show all dump`: off is no mark, 0 is never."""
    dump = "wg0\tPRIVATE\tPUBLIC\t51821\t0xca6c\nwg0\tPEER\t(none)\t203.0.113.10:51820\t0.0.0.0/0\t990\t10\t20\t25\n"
    dump += "wg1\tPRIVATE\tPUBLIC\t4000\toff\nwg1\tPEER\t(none)\t(none)\t::/0\t0\t0\t0\toff\n"

    tunnels = parse_dump(dump, now=1000)

    assert tunnels["wg0"].fwmark == Mark(0xCA6C)
    assert tunnels["wg0"].peers[0].handshake_age == 10
    assert tunnels["wg1"].fwmark is None
    assert tunnels["wg1"].peers[0].handshake_age is None
    assert "PRIVATE" not in repr(tunnels)


def test_a_handshake_that_is_still_to_come_has_no_age():
    """The clock was set back by an hour: no session is called fresh for it. A clock that is being disciplined is no matter."""
    dump = "wg0\tPRIVATE\tPUBLIC\t51821\toff\nwg0\tPEER\t(none)\t203.0.113.10:51820\t0.0.0.0/0\t990\t10\t20\t25\n"

    ages = [parse_dump(dump, now=now)["wg0"].handshake_age for now in (985, 990 - 3600)]

    assert ages == [0, None]
    assert "the clock was set back" in tunnel_words(parse_dump(dump, now=990 - 3600)["wg0"])


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "a/b", "a:b", 'a"b', "wg*", "a\\b", ".", "..", "ä" * 8])
def test_a_name_that_the_kernel_or_nft_can_not_take_is_no_interface(name):
    """A trailing star would open every interface of that prefix; a quote would end nft's string."""
    with pytest.raises(ValueError, match="interface"):
        InterfaceName(name)


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_port_has_sixteen_bits_and_is_not_zero(number):
    """0 would match nothing that is real and much that is not."""
    with pytest.raises(ValueError, match="port"):
        Port(number)


def test_root_s_units_run_what_root_alone_may_change(tmp_path):
    """A program in a home, or below a directory that others may write in, would let them become root."""
    program = tmp_path / "bin/failshut"
    program.parent.mkdir()
    program.touch(mode=0o755)

    assert why_no_unit("failshut") == ""
    assert "home" in why_no_unit("/home/alice/failshut/.venv/bin/failshut")
    if program.stat().st_uid == 0:
        assert why_no_unit(f"{program} monitor") == ""
    program.parent.chmod(0o777)
    assert why_no_unit(str(program)) != ""


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[Interface]\nPrivateKey = abc=\n", [b"abc="]),
        ("[WireGuard]\nPrivateKey=abc=\n", [b"abc="]),
        ("[wireguard]\nprivate-key=abc=\n", [b"abc="]),
        ("<key>\n-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n</key>\n", [b"\nabc\n"]),
        ("client\nkey client.key\n", []),
    ],
)
def test_the_stamp_is_made_from_the_key_of_any_kind_of_config(text, keys, tmp_path):
    """What a container could not read, whichever program the tunnel is of."""
    config = tmp_path / "config"
    config.write_text(text)

    assert probe._private_keys(config) == keys

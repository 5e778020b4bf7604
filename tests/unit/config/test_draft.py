"""The text of a new policy."""

from __future__ import annotations

import tomllib
from ipaddress import ip_address, ip_interface, ip_network

from failshut.config.draft import Draft, LanOffer, Pin, SshOffer, write
from failshut.model.units import Endpoint, InterfaceName, Mark, Port

WHOLE = Draft(
    InterfaceName("wg0"),
    "2026-11-22",
    config='/etc/wire"guard\\ü/wg0.conf',
    endpoints=(Pin(Endpoint(ip_address("203.0.113.10"), Port(51820)), "vpn.example.com"),),
    fwmark=Mark(0xCA6C),
    addresses=(ip_interface("10.99.0.2/32"),),
    lan=LanOffer("eth0", (ip_network("192.168.50.0/24"),)),
    lan_accepted=True,
    ssh=SshOffer(Port(22), ip_network("198.51.100.9/32")),
    ssh_accepted=True,
)


def test_everything_that_was_gathered_is_in_the_text():
    """Read back by TOML itself, whatever characters a path has."""
    read = tomllib.loads(write(WHOLE))

    assert read["tunnel"]["wg0"] == {
        "config": WHOLE.config,
        "endpoints": ["203.0.113.10:51820"],
        "fwmark": 0xCA6C,
        "addresses": ["10.99.0.2/32"],
    }
    assert read["allow"]["lan"]["prefixes"] == ["192.168.50.0/24"]
    assert read["allow"]["inbound"] == [{"name": "ssh", "protocol": "tcp", "port": 22, "from": ["198.51.100.9/32"]}]


def test_a_name_with_a_dot_stays_one_table():
    """[tunnel.a.b] would be a table in a table."""
    assert list(tomllib.loads(write(Draft(InterfaceName("a.b+c"), "2026-11-22")))["tunnel"]) == ["a.b+c"]


def test_a_refused_offer_becomes_valid_when_its_comments_go():
    """What the comment above it promises."""
    refused = write(Draft(InterfaceName("wg0"), "2026-11-22", lan=WHOLE.lan, ssh=WHOLE.ssh))
    accepted = "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in refused.split("\n"))

    assert set(tomllib.loads(refused)["allow"]) == {"dhcp", "ndp", "portal"}
    assert set(tomllib.loads(accepted)["allow"]) == {"dhcp", "ndp", "portal", "lan", "inbound"}

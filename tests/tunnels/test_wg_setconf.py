"""WireGuard brought up by hand, with `wg setconf` and ip, from a config without an address."""

from __future__ import annotations

import pytest

from connected import SERVER, Connected
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

CONFIG = "/etc/wireguard/wg0.conf"
_UP = f"""
set -e
ip link add wg0 type wireguard 2>/dev/null || wireguard-go wg0
wg setconf wg0 {CONFIG}
ip address add 10.99.0.2/32 dev wg0
ip link set wg0 mtu 1420 up
ip route add default dev wg0 table 51820
ip rule add not fwmark 51820 table 51820
"""


def test_it_gets_its_mark_from_its_config_and_carries_under_the_lock():
    """The line that arming adds is one that `wg setconf` takes; verify leaves alone what it could not bring back."""
    with Connected() as lab:
        text = (
            f"[Interface]\nPrivateKey = {lab._key}\n\n"
            f"[Peer]\nPublicKey = {lab._server_key}\nEndpoint = {SERVER}:51820\nAllowedIPs = 0.0.0.0/0\n"
        )
        lab.write(CONFIG, text)
        lab.must(*FAILSHUT, "init", "wg0")
        lab.must(*FAILSHUT, "arm")

        lab.must("sh", "-c", _UP)
        marked = lab.must("wg", "show", "wg0", "fwmark").strip()
        carried = lab.carries()
        verified = lab.failshut("verify", "--yes", "--window", "1")
        lab.must(*FAILSHUT, "disarm", "--yes")

        assert marked == "0xca6c"
        assert carried
        assert verified.returncode == 1
        assert "can't promise to bring it back" in verified.stderr
        assert lab.read(CONFIG) == text

"""Where a server's files stand."""

from __future__ import annotations

from pathlib import Path

from failshut.model.units import InterfaceName

INTERFACE = InterfaceName("wg0")
CONFIG = Path("/etc/wireguard/wg0.conf")
DIRECTORY = Path("/etc/failshut/server")
RULES = DIRECTORY / "firewall.nft"
# What there was before, for `server remove`.
RECORD = DIRECTORY / "before.json"
SYSCTLS = Path("/etc/sysctl.d/60-failshut-server.conf")
UNIT = "failshut-server.service"
UNIT_PATH = Path("/etc/systemd/system") / UNIT
TUNNEL_UNIT = f"wg-quick@{INTERFACE}.service"
LOCK = Path("/run/failshut-server.lock")

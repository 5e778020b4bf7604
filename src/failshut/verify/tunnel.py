"""How a tunnel is up, so that it can be taken down, crashed, and brought back the same way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from failshut.host.links import all_links
from failshut.host.openvpn import holders_of
from failshut.host.run import Result, run
from failshut.host.wireguard import fwmark_of, running_tunnels, set_fwmark
from failshut.model.policy import Policy, Tunnel
from failshut.model.units import Mark

# wg-quick's hooks may take their time; its unit has systemd's own deadline of 90 s.
_PATIENCE = 120.0
_SAVES = re.compile(r"^\s*SaveConfig\s*=\s*true\b", re.IGNORECASE | re.MULTILINE)


class Way(StrEnum):
    """What brought a tunnel up."""

    UNIT = "systemd's wg-quick@ unit"
    QUICK = "wg-quick"
    OTHER = "something else"


@dataclass(frozen=True, slots=True)
class Standing:
    """A tunnel that is up: what brought it up, and how it was.

    `kernel` is False for a program's WireGuard; `why_not` is the reason it must not be taken apart, "" when it may be.
    """

    name: str
    way: Way
    kernel: bool
    config: str = ""
    mark: Mark | None = None
    why_not: str = ""

    @property
    def unit(self) -> str:
        """The systemd unit that would have brought it up."""
        return f"wg-quick@{self.name}.service"


def standing(policy: Policy) -> tuple[Standing, ...]:
    """Return the policy's tunnels that are up now."""
    links = {link["ifname"]: link for link in all_links()}
    return tuple(_standing(each, links[each.interface]) for each in policy.tunnels if each.interface in links)


def _standing(tunnel: Tunnel, link: dict[str, object]) -> Standing:
    name = str(tunnel.interface)
    info = link.get("linkinfo")
    kernel = isinstance(info, dict) and info.get("info_kind") == "wireguard"
    way, config = _way(tunnel, str(link.get("ifindex", "")))
    return Standing(name, way, kernel, config, fwmark_of(name), _why_not(tunnel, way, config))


def _way(tunnel: Tunnel, index: str) -> tuple[Way, str]:
    name = str(tunnel.interface)
    config = tunnel.config or f"/etc/wireguard/{name}.conf"
    if name not in running_tunnels() or _is_managed(index) or not Path(config).is_file():
        return Way.OTHER, ""
    if run(["systemctl", "is-active", "--quiet", f"wg-quick@{name}.service"]).ok:
        return Way.UNIT, f"/etc/wireguard/{name}.conf"
    return Way.QUICK, str(Path(config).absolute())


def _is_managed(index: str) -> bool:
    """Whether NetworkManager or systemd-networkd brought the device up: neither leaves its tunnel to wg-quick."""
    for path, sign in (
        (Path("/run/NetworkManager/devices") / index, "nm-owned=true"),
        (Path("/run/systemd/netif/links") / index, "NETWORK_FILE=/"),
    ):
        with contextlib.suppress(OSError):
            if sign in path.read_text(errors="replace"):
                return True
    return False


def _why_not(tunnel: Tunnel, way: Way, config: str) -> str:
    if way is Way.OTHER:
        return "wg-quick did not bring it up, so failshut can't promise to bring it back"
    if tunnel.named_endpoints:
        return f"{config} names its endpoint by a name: with the lock on wg-quick could not look it up to bring the tunnel back"
    try:
        text = Path(config).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"{config} can't be read: {error.strerror}"
    return f"{config} says SaveConfig: taking the tunnel down would rewrite that file" if _SAVES.search(text) else ""


def is_there(name: str) -> bool:
    """Whether an interface exists now."""
    return Path("/sys/class/net", name).exists() or any(link["ifname"] == name for link in all_links())


def handshake(name: str) -> int | None:
    """Return the seconds since a tunnel's last handshake; None without one."""
    tunnel = running_tunnels().get(name)
    return tunnel.handshake_age if tunnel else None


def take_down(tunnel: Standing) -> Result:
    """Take a tunnel down as its user would."""
    if tunnel.way is Way.UNIT:
        return _act("systemctl", "stop", tunnel.unit)
    return _act("wg-quick", "down", tunnel.config)


def crash(tunnel: Standing) -> str:
    """Let a tunnel die without a word: its interface deleted, or its process killed. Return "" or why it could not be done."""
    if tunnel.kernel:
        result = _act("ip", "link", "delete", "dev", tunnel.name)
        return "" if result.ok else result.complaint
    holders = list(holders_of(tunnel.name))
    for process in holders:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return "" if holders else f"no process holds {tunnel.name}"


def bring_back(tunnel: Standing, *, crashed: bool) -> str:
    """Bring a tunnel up the way it was; from whatever state it is in. Return "" or what was said."""
    if crashed and not is_there(tunnel.name):
        _stand_in(tunnel)
    if tunnel.way is Way.UNIT:
        result = _act("systemctl", "restart", tunnel.unit)
    else:
        if is_there(tunnel.name):
            _act("wg-quick", "down", tunnel.config)
        result = _act("wg-quick", "up", tunnel.config)
    if not result.ok:
        return result.complaint
    if tunnel.mark is not None and fwmark_of(tunnel.name) is None:
        set_fwmark(tunnel.name, tunnel.mark)
    return "" if is_there(tunnel.name) else f"{tunnel.name} is not there"


def _stand_in(tunnel: Standing) -> None:
    """Make the dead tunnel's interface again, so that `wg-quick down` clears away what it left: rules, routes, the resolver.

    wg-quick looks at the interface's mark and allowed addresses to know what to remove, and it would refuse to come up over
    what is left.
    """
    if not (tunnel.kernel and _act("ip", "link", "add", "dev", tunnel.name, "type", "wireguard").ok):
        _act(os.environ.get("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go"), tunnel.name)
    stripped = run(["wg-quick", "strip", tunnel.config])
    run(["wg", "setconf", tunnel.name, "/dev/stdin"], stdin=stripped.out)
    if tunnel.mark is not None:
        set_fwmark(tunnel.name, tunnel.mark)


def _act(*argv: str) -> Result:
    return run(argv, timeout=_PATIENCE, own_group=True)

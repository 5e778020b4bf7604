"""Which program a tunnel's config is for, by what stands in it; and the one way to read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import assert_never

from failshut.config.formats import networkd, networkmanager, openvpn, wgquick
from failshut.config.formats.tunnel_config import TunnelConfig, decoded
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding
from failshut.model.policy import TunnelKind

# In bytes: a config with every certificate inside has some ten kilobytes, one with a list of revoked ones some hundred.
LARGEST_CONFIG = 1 << 20
_SECTION = re.compile(r"^[ \t\ufeff]*\[([^\]\r\n]+)\][ \t\r]*(?:#.*)?$", re.MULTILINE)
_OPENVPN = re.compile(
    r"^[ \t\ufeff]*(?:--)?(client|pull|tls-client|remote[ \t]+\S+|dev[ \t]+(tun|tap)\S*|proto[ \t]+(udp|tcp)\S*|auth-user-pass"
    r"|nobind|<(ca|cert|key|connection|tls-auth|tls-crypt)>)(?=[ \t\r\n]|$)",
    re.MULTILINE,
)


def kind_of(text: str) -> TunnelKind:
    """Return whose config a text is; wg-quick's where nothing says otherwise."""
    sections = {each.strip() for each in _SECTION.findall(text)}
    if sections & {"NetDev", "WireGuard", "WireGuardPeer"}:
        return TunnelKind.NETWORKD
    if "connection" in sections or any(each.startswith("wireguard-peer.") for each in sections):
        return TunnelKind.NETWORK_MANAGER
    if not {each.lower() for each in sections} & {"interface", "peer"} and _OPENVPN.search(text):
        return TunnelKind.OPENVPN
    return TunnelKind.WG_QUICK


def read_tunnel(raw: bytes | str, path: str, beside: Mapping[str, bytes] | None = None) -> TunnelConfig | list[Finding]:
    """Read a tunnel's config, whatever its kind. Never raises.

    `beside` are the files that belong to it, by path: a .netdev's drop-ins, and the .network files of its directory.
    """
    if len(raw) > LARGEST_CONFIG:
        message = f"the file is larger than any tunnel's config ({LARGEST_CONFIG >> 20} MiB)"
        return [SourceText(path, ()).finding(Code.CONFIG_NOT_WG, message, help="name the config itself")]
    text = decoded(raw)
    sections = set(_SECTION.findall(text))
    if {"Match", "Network"} <= sections and not sections & {"NetDev", "WireGuard"}:
        remedy = "name the .netdev that makes the interface; its .network is found beside it"
        return [SourceText(path, ()).finding(Code.CONFIG_NOT_WG, "this is a .network of systemd-networkd's", help=remedy)]
    found = _read(kind_of(text), text, path, beside or {})
    return sorted(found, key=lambda each: (each.place.file, each.place.line)) if isinstance(found, list) else found


def _read(kind: TunnelKind, text: str, path: str, beside: Mapping[str, bytes]) -> TunnelConfig | list[Finding]:
    match kind:
        case TunnelKind.NETWORKD:
            return networkd.read_tunnel(text, path, beside)
        case TunnelKind.NETWORK_MANAGER:
            return networkmanager.read_tunnel(text, path)
        case TunnelKind.OPENVPN:
            return openvpn.read_tunnel(text, path)
        case TunnelKind.WG_QUICK:
            return wgquick.read_tunnel(text, path)
        case _:
            assert_never(kind)

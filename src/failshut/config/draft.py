"""Writes a new policy as text, commented for its reader and sound for `failshut check`; `host.adopt` gathers what goes in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from failshut.model.units import Endpoint, InterfaceAddress, InterfaceName, Mark, Port, Prefix


@dataclass(frozen=True, slots=True)
class Pin:
    """An endpoint, and the host name it was resolved from ("" when it was an address already)."""

    endpoint: Endpoint
    host: str = ""


@dataclass(frozen=True, slots=True)
class LanOffer:
    """The network around the default route, as it could be allowed."""

    interface: str
    prefixes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class SshOffer:
    """The SSH session that reached this machine: the port it came to, and who it came from."""

    port: Port
    source: Prefix


@dataclass(frozen=True, slots=True)
class TailscaleOffer:
    """Tailscale runs here; `is_in_use` when the session the policy is written from came by it."""

    is_in_use: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a new policy says. `endpoints`, `fwmark` and `addresses` are only said where the config does not.

    An offer that is not accepted is written too, commented out. `date` is the day of writing, YYYY-MM-DD.
    """

    tunnel: InterfaceName
    date: str
    config: str | None = None
    endpoints: tuple[Pin, ...] = ()
    fwmark: Mark | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    lan: LanOffer | None = None
    lan_accepted: bool = False
    ssh: SshOffer | None = None
    ssh_accepted: bool = False
    tailscale: TailscaleOffer | None = None
    tailscale_accepted: bool = False
    # Where an editor finds what may be written here, as a URL; "" where it is not said.
    schema: str = ""


def write(draft: Draft) -> str:
    """Return the policy's text."""
    return "\n".join((*_head(draft), *_tunnel(draft), *_allow(), *_lan(draft), *_ssh(draft), *_tailscale(draft), *_more())) + "\n"


def _head(draft: Draft) -> list[str]:
    return [
        *([f"#:schema {draft.schema}"] if draft.schema else []),
        "# What may leave this machine. Whatever is not named here is refused.",
        f"# Written by `failshut init` on {draft.date}. `failshut check` shows every mistake in it at once,",
        "# `failshut plan` what arming it would change, and `failshut drill` rehearses it without touching this machine.",
        "",
    ]


def _tunnel(draft: Draft) -> list[str]:
    lines = [f"[tunnel.{_key(draft.tunnel)}]"]
    if draft.config:
        lines.append(f"config = {_text(draft.config)}   # endpoints, fwmark and addresses are read from it, unless given below")
    if draft.endpoints:
        if any(each.host for each in draft.endpoints):
            lines += [
                f"# Pinned on {draft.date}: with the lock armed and the tunnel down, no name can be looked up.",
                "# When the provider moves its server, put the new address here.",
            ]
        lines.append("endpoints = [")
        lines += [f"    {_text(str(each.endpoint))},{f'   # {each.host}' if each.host else ''}" for each in draft.endpoints]
        lines.append("]")
    if draft.fwmark is not None:
        lines.append(f"fwmark = {int(draft.fwmark):#x}   # the mark the tunnel's own packets carry")
    if draft.addresses:
        lines.append(f"addresses = {_array(draft.addresses)}   # refused on every other interface")
    return [*lines, ""]


def _allow() -> list[str]:
    return [
        "[allow]",
        "dhcp = true   # narrowed to what a DHCP client sends",
        "ndp = true    # IPv6 neighbour and router discovery, link-local only",
        "portal = false   # true: `failshut portal` may let one browser sign in at a captive portal, for five minutes",
        "",
    ]


def _lan(draft: Draft) -> list[str]:
    if draft.lan is None:
        return []
    reason = f"The local network at {draft.lan.interface}: printers, shares, other machines. DNS to it stays refused."
    return _offered(
        reason,
        draft.lan_accepted,
        [
            "[allow.lan]",
            f"prefixes = {_array(draft.lan.prefixes)}",
            "dns = false         # true lets the router answer name lookups",
            "multicast = false   # true allows mDNS and SSDP",
        ],
    )


def _ssh(draft: Draft) -> list[str]:
    if draft.ssh is None:
        return []
    lines = [
        "[[allow.inbound]]",
        'name = "ssh"',
        'protocol = "tcp"',
        f"port = {int(draft.ssh.port)}",
        f"from = {_array([draft.ssh.source])}",
    ]
    return _offered(
        "The SSH session this policy was written from. Replies only; without it, arming cuts the session off.",
        draft.ssh_accepted,
        lines,
    )


def _tailscale(draft: Draft) -> list[str]:
    if draft.tailscale is None:
        return []
    reason = "Tailscale beside the tunnel: tailscaled's own packets, and whatever leaves by tailscale0."
    return _offered(reason, draft.tailscale_accepted, ["[allow.tailscale]"])


def _offered(reason: str, accepted: bool, lines: list[str]) -> list[str]:
    if accepted:
        return [f"# {reason}", *lines, ""]
    return [f"# {reason}", "# Not allowed: remove the '#' before each line to allow it.", *(f"#{each}" for each in lines), ""]


def _more() -> list[str]:
    return [
        "[log]",
        'blocked = "nflog"   # refused packets are counted, and told to `failshut watch` while it runs; "count" tells nobody',
    ]


def _key(name: str) -> str:
    bare = all(each.isascii() and (each.isalnum() or each in "-_") for each in name)
    return name if bare else _text(name)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, as long as characters beyond the first plane stay as they are.
    return json.dumps(value, ensure_ascii=False)


def _array(values: Iterable[object]) -> str:
    return f"[{', '.join(_text(str(each)) for each in values)}]"

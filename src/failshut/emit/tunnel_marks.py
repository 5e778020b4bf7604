"""The line that gives a tunnel's packets their mark, in each kind of config; ours is known again by its tag.

An edit keeps every other byte: comments, order, line ends. systemd-networkd has drop-ins, so that its files stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from failshut.emit import wgquick
from failshut.emit.wgquick import TAG
from failshut.model.policy import TunnelKind
from failshut.model.units import Mark

_DROP_IN = "failshut.conf"
_HEAD = "# Written by `failshut arm`, removed by `failshut disarm`.\n"
_GROUP = re.compile(r"^[ \t]*\[wireguard\][ \t]*(?=\r?$)", re.MULTILINE)
_END = r"(?:\r\n|\n|\r|$)"
# What we write, kind by kind; the mark is the first group.
_OURS = (
    # Also behind a byte-order mark.
    re.compile(rf"(?:^|(?<=\ufeff))mark ([0-9]+) {re.escape(TAG)}{_END}", re.MULTILINE),
    re.compile(rf"^{re.escape(TAG)}{_END}fwmark=([0-9]+){_END}", re.MULTILINE),
    re.compile(rf"\A{re.escape(_HEAD + TAG)}\n\[WireGuard\]\nFirewallMark=(0x[0-9a-f]+)\n\Z"),
)


def place_of(kind: TunnelKind, config: str) -> str:
    """Return the file in which a tunnel of this kind gets its mark: the config itself, or a drop-in beside it."""
    return f"{config}.d/{_DROP_IN}" if kind is TunnelKind.NETWORKD else config


def with_mark(kind: TunnelKind, text: str, mark: Mark) -> str:
    """Return the text of `place_of` with the mark. Raises ValueError for one that has no place for it."""
    return _WRITERS[kind](text, mark)


def line_of(kind: TunnelKind, mark: Mark) -> str:
    """Return the line that a user would write by hand."""
    return {
        TunnelKind.WG_QUICK: f"FwMark = {mark} (in [Interface])",
        TunnelKind.NETWORKD: f"FirewallMark={mark} (in [WireGuard])",
        TunnelKind.NETWORK_MANAGER: f"fwmark={int(mark)} (in [wireguard])",
        TunnelKind.OPENVPN: f"mark {int(mark)}",
    }[kind]


def mark_of_ours(text: str) -> Mark | None:
    """Return the mark of our own line; None without one."""
    found = next((hit for each in _OURS if (hit := each.search(text))), None)
    return Mark(int(found[1], 0)) if found else wgquick.fwmark_of_ours(text)


def without_mark(text: str) -> str:
    """Return a text without our lines, of whatever kind it is; "" for a file that is ours."""
    for each in _OURS:
        text = each.sub("", text)
    return wgquick.without_fwmark(text)


def _drop_in(_text: str, mark: Mark) -> str:
    return f"{_HEAD}{TAG}\n[WireGuard]\nFirewallMark={mark}\n"


def _keyfile(text: str, mark: Mark) -> str:
    bare = without_mark(text)
    group = _GROUP.search(bare)
    if group is None:
        raise ValueError("the connection has no [wireguard] group")
    return wgquick.line_behind(bare, group.end(), TAG, f"fwmark={int(mark)}")


def _openvpn(text: str, mark: Mark) -> str:
    bare = without_mark(text)
    bom = "\ufeff" if bare.startswith("\ufeff") else ""
    return f"{bom}mark {int(mark)} {TAG}{_newline(bare)}{bare.removeprefix(bom)}"


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


_WRITERS: dict[TunnelKind, Callable[[str, Mark], str]] = {
    TunnelKind.WG_QUICK: wgquick.with_fwmark,
    TunnelKind.NETWORKD: _drop_in,
    TunnelKind.NETWORK_MANAGER: _keyfile,
    TunnelKind.OPENVPN: _openvpn,
}

"""Reads a wg-quick(8) config as wg-quick and wg(8) themselves do, and forgets every key it sees.

Two programs read such a file. wg-quick takes its own keys out of [Interface] (it trims each line, cuts comments at '#', ignores
case); every other line goes to wg, which drops *all* white space of a line before it looks at it. Both are followed here line by
line (wg-quick's `parse_options`, wireguard-tools' config.c), because a config that wg accepts must not be misread by the lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from failshut.config import addresses, values
from failshut.config.formats.tunnel_config import (
    Remote,
    Sited,
    TunnelConfig,
    covers_everything,
    decoded,
    not_text,
    own_firewall,
    place,
)
from failshut.config.formats.wireguard import count, endpoint, network, require_key, typed
from failshut.config.mistake import Mistake, shown
from failshut.config.source import SourceText, masked
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import Endpoint, InterfaceAddress, Mark, NamedEndpoint, Prefix

# isspace() in the C locale; str.strip() alone would take Unicode's spaces too.
_SPACE = " \t\n\v\f\r"
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_HOOKS = ("preup", "postup", "predown", "postdown")
_QUICK_KEYS = ("address", "mtu", "dns", "table", *_HOOKS, "saveconfig")
_DEVICE_KEYS = ("listenport", "fwmark", "privatekey")
_PEER_KEYS = ("endpoint", "publickey", "allowedips", "persistentkeepalive", "presharedkey")
_SECRET_KEYS = ("privatekey", "presharedkey")
_SPELLING = {
    each.lower(): each
    for each in (
        *("Address", "MTU", "DNS", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"),
        *("ListenPort", "FwMark", "PrivateKey", "Endpoint", "PublicKey", "AllowedIPs", "PersistentKeepalive", "PresharedKey"),
    )
}
# Long enough to be part of a key, in a place where nothing but a short word belongs.
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")


@dataclass(frozen=True, slots=True)
class Hook:
    """A PreUp, PostUp, PreDown or PostDown command, as text; `when` is the key in wg-quick's spelling."""

    when: str
    command: str
    line: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One [Peer]: no key of it is kept. `line` is the section's, `endpoint_line` the Endpoint's (0: none)."""

    line: int
    endpoint: Endpoint | NamedEndpoint | None = None
    endpoint_line: int = 0
    allowed: tuple[Prefix, ...] = ()
    # In seconds; None when off or not set.
    keepalive: int | None = None
    has_public_key: bool = False
    has_preshared_key: bool = False


@dataclass(frozen=True, slots=True)
class WgQuickConfig:
    """A wg-quick config without its keys. Line numbers count from 1; 0 says that the key is not there."""

    path: str
    addresses: tuple[InterfaceAddress, ...] = ()
    address_line: int = 0
    fwmark: Mark | None = None
    fwmark_line: int = 0
    listen_port: int | None = None
    mtu: int | None = None
    dns: tuple[str, ...] = ()
    table: str = ""
    save: bool = False
    hooks: tuple[Hook, ...] = ()
    peers: tuple[Peer, ...] = ()
    has_private_key: bool = False
    private_key_line: int = 0
    source: SourceText = field(default=SourceText("", ()), repr=False, compare=False)

    @property
    def is_full_tunnel(self) -> bool:
        """Whether the peers' AllowedIPs cover all of IPv4 or all of IPv6, in one piece or in two halves."""
        return covers_everything(each for peer in self.peers for each in peer.allowed)


def read(text: bytes | str, path: str) -> WgQuickConfig | list[Finding]:
    """Read a config's text; `path` is only named in messages. Never raises."""
    # As bash and wg under LC_ALL=C, which look at bytes.
    text = decoded(text)
    lines = text.split("\n")
    source = SourceText(path, tuple(_presentable(each) for each in lines))
    strange = not_text(text, source, program="wg-quick")
    if strange:
        return [strange]
    reader = _Reader(source)
    for number, line in enumerate(lines, 1):
        reader.line(number, line)
    return reader.finish()


def read_tunnel(text: bytes | str, path: str) -> TunnelConfig | list[Finding]:
    """Read a config as far as the lock must know it: wg-quick's, and what `wg setconf` takes."""
    config = read(text, path)
    if isinstance(config, list):
        return config
    endpoints = ((peer.endpoint, peer.endpoint_line) for peer in config.peers)
    return TunnelConfig(
        path=path,
        kind=TunnelKind.WG_QUICK,
        source=config.source,
        remotes=tuple(Remote(site, line) for site, line in endpoints if site is not None),
        interface=PurePosixPath(path).stem,
        fwmark=config.fwmark,
        fwmark_where=f"{path}:{config.fwmark_line}" if config.fwmark_line else "",
        addresses=tuple(Sited(each, f"{path}:{config.address_line}") for each in config.addresses),
        secret_line=config.private_key_line,
        peer_line=config.peers[0].line if config.peers else 0,
        remarks=(
            *own_firewall(config.source, ((each.when, each.command, each.line) for each in config.hooks)),
            *_not_full(config),
        ),
    )


def _not_full(config: WgQuickConfig) -> Iterator[Finding]:
    if config.peers and not config.is_full_tunnel and config.table != "off":
        message = "AllowedIPs do not cover all addresses: with the lock armed, what does not go into the tunnel goes nowhere"
        remedy = "for a VPN that carries everything write AllowedIPs = 0.0.0.0/0, ::/0"
        at = place(config.source, config.peers[0].line)
        yield config.source.finding(Code.CONFIG_NOT_FULL, message, at, remedy, Severity.WARNING)


class _Reader:
    """Goes through a file once; keeps what was read so far and what was wrong."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.findings: list[Finding] = []
        self.device: dict[str, Any] = {}
        self.addresses: list[InterfaceAddress] = []
        self.hooks: list[Hook] = []
        self.dns: list[str] = []
        self.peers: list[Peer] = []
        self.quick_section = False
        self.section = ""
        self.seen_interface = False

    def line(self, number: int, line: str) -> None:
        """Read one line: wg-quick takes its keys out of [Interface], wg gets the others."""
        stripped = line.split("#", 1)[0]
        key, equals, value = (each.strip(_SPACE) for each in stripped.partition("="))
        key = key.translate(_LOWER)
        if key.startswith("["):
            self.quick_section = key == "[interface]" and not equals
        try:
            if self.quick_section and key in _QUICK_KEYS:
                self._quick(key, value, number, has_value=bool(equals))
            else:
                self._wg("".join(each for each in stripped if each not in _SPACE), number)
        except Mistake as wrong:
            self.findings.append(self.source.mistake(wrong, self._spot(number)))

    def finish(self) -> WgQuickConfig | list[Finding]:
        """Return the config, or every finding."""
        if not self.seen_interface and not self.findings:
            remedy = "a wg-quick config has an [Interface] and at least one [Peer]"
            self.findings.append(self.source.finding(Code.CONFIG_NO_INTERFACE, "there is no [Interface] section", help=remedy))
        for peer in self.peers:
            if not peer.has_public_key and not self.findings:
                wrong = Mistake(Code.CONFIG_BAD_VALUE, "this [Peer] has no PublicKey; wg refuses it", "add the server's PublicKey")
                self.findings.append(self.source.mistake(wrong, self._spot(peer.line)))
        if self.findings:
            return self.findings
        return WgQuickConfig(
            path=self.source.path,
            addresses=tuple(self.addresses),
            dns=tuple(self.dns),
            hooks=tuple(self.hooks),
            peers=tuple(self.peers),
            source=self.source,
            **self.device,
        )

    def _spot(self, number: int) -> tuple[int, int, int]:
        text = self.source.lines[number - 1]
        return (number, len(text) - len(text.lstrip(_SPACE)) + 1, max(len(text.strip(_SPACE)), 1))

    def _quick(self, key: str, value: str, number: int, *, has_value: bool) -> None:
        name = _SPELLING[key]
        if not has_value:
            raise Mistake(Code.CONFIG_BAD_LINE, f"{name} has no '='", f"write {name} = …")
        match key:
            case "address":
                self.device.setdefault("address_line", number)
                self.addresses += [typed(addresses.interface_address, each, name) for each in _words(value)]
            case "mtu":
                self.device["mtu"] = count(value, name, 0xFFFFFFFF)
            case "dns":
                self.dns += _words(value)
            case "table":
                self.device["table"] = value
            case "saveconfig":
                if value.translate(_LOWER) not in ("true", "false"):
                    raise Mistake(Code.CONFIG_BAD_VALUE, f"SaveConfig is {shown(value)}", "write SaveConfig = true or false")
                self.device["save"] = value.translate(_LOWER) == "true"
            case _:
                self.hooks.append(Hook(name, masked(value), number))

    def _wg(self, line: str, number: int) -> None:
        """Read a line that holds no white space any more."""
        lowered = line.translate(_LOWER)
        if not line:
            return
        if lowered == "[interface]":
            self.section, self.seen_interface = "interface", True
        elif lowered == "[peer]":
            self.section = "peer"
            self.peers.append(Peer(number))
        else:
            key, equals, value = line.partition("=")
            key = key.translate(_LOWER)
            if not equals or key not in self._known():
                raise self._unrecognised(line)
            if not value:
                raise Mistake(Code.CONFIG_BAD_VALUE, f"{_SPELLING[key]} is empty", "fill it in, or remove the line")
            if self.section == "interface":
                self._device(key, value, number)
            else:
                self.peers[-1] = _PEER_READERS[key](self.peers[-1], value, number)

    def _known(self) -> tuple[str, ...]:
        return {"interface": _DEVICE_KEYS, "peer": _PEER_KEYS}.get(self.section, ())

    def _device(self, key: str, value: str, number: int) -> None:
        match key:
            case "fwmark":
                self.device["fwmark"] = typed(_fwmark, value, "FwMark")
                self.device["fwmark_line"] = number
            case "listenport":
                self.device["listen_port"] = count(value, "ListenPort", 0xFFFF)
            case _:
                require_key(value, "PrivateKey")
                self.device["has_private_key"] = True
                self.device["private_key_line"] = number

    def _unrecognised(self, line: str) -> Mistake:
        key, equals, _ = line.partition("=")
        if not self.section:
            return Mistake(
                Code.CONFIG_BAD_LINE, f"{_safe(key)} stands before any section", "a wg-quick config begins with [Interface]"
            )
        if line.startswith("["):
            return Mistake(Code.CONFIG_BAD_LINE, f"there is no section {_safe(line)}", "the sections are [Interface] and [Peer]")
        low = key.translate(_LOWER)
        home = "[Interface]" if low in (*_QUICK_KEYS, *_DEVICE_KEYS) else "[Peer]" if low in _PEER_KEYS else ""
        if not equals:
            return Mistake(Code.CONFIG_BAD_LINE, f"{_safe(key)} has no '='", "write Key = value")
        if home:
            return Mistake(Code.CONFIG_BAD_LINE, f"{_SPELLING[low]} can't stand in this section", f"move it to {home}")
        here = (*_QUICK_KEYS, *_DEVICE_KEYS) if self.section == "interface" else _PEER_KEYS
        close = get_close_matches(low, here, n=1)
        remedy = f"did you mean {_SPELLING[close[0]]}?" if close else "wg-quick refuses a file with it: remove the line"
        return Mistake(Code.CONFIG_BAD_LINE, f"wg-quick knows no key {_safe(key)}", remedy)


def _endpoint(peer: Peer, value: str, number: int) -> Peer:
    return replace(peer, endpoint=endpoint(value), endpoint_line=number)


def _allowed(peer: Peer, value: str, _number: int) -> Peer:
    """As wg's parse_allowedips: host bits are dropped, no length means a single address."""
    texts = [each.removeprefix("+") for each in value.split(",")]
    return replace(peer, allowed=(*peer.allowed, *(typed(network, each, "AllowedIPs") for each in texts)))


def _keepalive(peer: Peer, value: str, _number: int) -> Peer:
    seconds = 0 if value.translate(_LOWER) == "off" else count(value, "PersistentKeepalive", 0xFFFF)
    return replace(peer, keepalive=seconds or None)


def _public_key(peer: Peer, value: str, _number: int) -> Peer:
    require_key(value, "PublicKey")
    return replace(peer, has_public_key=True)


def _preshared_key(peer: Peer, value: str, _number: int) -> Peer:
    require_key(value, "PresharedKey")
    return replace(peer, has_preshared_key=True)


_PEER_READERS: dict[str, Callable[[Peer, str, int], Peer]] = {
    "endpoint": _endpoint,
    "allowedips": _allowed,
    "persistentkeepalive": _keepalive,
    "publickey": _public_key,
    "presharedkey": _preshared_key,
}


def _words(value: str) -> list[str]:
    """Split as bash splits `${value//,/ }`."""
    return [each for each in re.split(f"[,{_SPACE}]+", value) if each]


def _fwmark(text: str) -> Mark | None:
    number = values.mark_number(text)
    return values.mark(number) if number else None


def _safe(text: str) -> str:
    """Quote a word of the file that should have been a key's name, unless it looks like a part of a secret."""
    if get_close_matches(text.translate(_LOWER), _SPELLING, n=1, cutoff=0.8):
        return shown(text)
    return shown(_BASE64_RUN.sub("(hidden)", text))


def _presentable(line: str) -> str:
    """Return a line as a finding may show it: without its comment, and with its value only where that can't be a secret."""
    stripped = line.split("#", 1)[0].rstrip(_SPACE)
    key, equals, value = stripped.partition("=")
    bare = "".join(each for each in key if each not in _SPACE).translate(_LOWER)
    if equals and bare in _SPELLING and bare not in (*_SECRET_KEYS, "publickey"):
        return stripped
    if not get_close_matches(bare, _SPELLING, n=1, cutoff=0.8):
        key = _BASE64_RUN.sub("(hidden)", key)
    return key + (equals + " (hidden)" if value.strip(_SPACE) else equals)

"""Reads an OpenVPN client's config as far as the lock must know it: where it connects to, as whom, by which device.

As OpenVPN's options.c: a `remote` without a port or protocol takes the file's last ones, a <connection> block those that stand
before it; with blocks, remotes outside of them are not used. Options that don't matter here are read past.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from ipaddress import IPv4Network

from failshut.config import addresses
from failshut.config.formats.openvpn_words import Directive, named, read_words
from failshut.config.formats.tunnel_config import Remote, Sited, TunnelConfig, decoded, not_text, own_firewall, place
from failshut.config.formats.wireguard import typed
from failshut.config.mistake import Mistake, shown
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import InterfaceAddress, Mark, Protocol

# IANA's port for OpenVPN, and for SOCKS.
_PORT, _SOCKS_PORT = "1194", "1080"
_PROTOCOLS = {
    **dict.fromkeys(("udp", "udp4", "udp6"), Protocol.UDP),
    **dict.fromkeys(("tcp", "tcp4", "tcp6", "tcp-client", "tcp4-client", "tcp6-client"), Protocol.TCP),
}
_HOOKS = ("up", "down", "route-up", "route-pre-down", "ipchange", "tls-verify", "auth-user-pass-verify")
# atoi() reads it, into an int.
_LARGEST_MARK = 0x7FFFFFFF
# What nobody may mistype: with the rest OpenVPN itself is particular.
_CRUCIAL = ("remote", "proto", "port", "rport", "dev", "mark", "user", "http-proxy", "socks-proxy", "connection", "config")
_KEYS = ("key", "secret", "pkcs12", "tls-auth", "tls-crypt", "tls-crypt-v2", "auth-user-pass")
# Users that have no single program of their own.
_SHARED = ("nobody", "daemon")


@dataclass(frozen=True, slots=True)
class _Way:
    """What a connection is made of, as far as it is known."""

    protocol: str = "udp"
    port: str = _PORT
    http: Directive | None = None
    socks: Directive | None = None


@dataclass(slots=True)
class _Config:
    """What was read so far."""

    source: SourceText
    findings: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    way: _Way = field(default_factory=_Way)
    # With the way that each takes what it does not say from; None: the file's last.
    remotes: list[tuple[Directive, _Way | None]] = field(default_factory=list)
    blocks: list[tuple[Directive, _Way]] = field(default_factory=list)
    said: dict[str, Directive] = field(default_factory=dict)
    hooks: list[tuple[str, str, int]] = field(default_factory=list)

    def refuse(self, line: int, message: str, remedy: str = "", code: Code = Code.CONFIG_BAD_VALUE) -> None:
        """Note a mistake."""
        self.findings.append(self.source.finding(code, message, place(self.source, line), remedy))

    def warn(self, line: int, code: Code, message: str, remedy: str) -> None:
        """Note what is said and passed."""
        self.remarks.append(self.source.finding(code, message, place(self.source, line), remedy, Severity.WARNING))

    def word(self, name: str, index: int = 1) -> str:
        """Return a word of the last option of this name, "" without."""
        return self.said[name].word(index) if name in self.said else ""

    def line(self, name: str) -> int:
        """Return where the last option of this name stands; 0 for nowhere."""
        return self.said[name].line if name in self.said else 0


def read_tunnel(text: bytes | str, path: str) -> TunnelConfig | list[Finding]:
    """Read a config. Never raises."""
    text = decoded(text)
    directives, source, findings = read_words(text, path)
    strange = not_text(text, source, program="OpenVPN", takes_bom=True)
    if strange:
        return [strange]
    config = _Config(source, findings)
    for each in directives:
        _take(config, each)
    _must_be_a_client(config)
    remotes = tuple(dict.fromkeys(_remotes(config)))
    mark = _mark(config)
    addresses = tuple(_addresses(config))
    _remark(config)
    if config.findings:
        return config.findings
    return TunnelConfig(
        path=path,
        kind=TunnelKind.OPENVPN,
        source=source,
        remotes=remotes,
        interface=_device(config),
        fwmark=mark,
        fwmark_where=f"{path}:{config.line('mark')}" if mark else "",
        addresses=addresses,
        user=config.word("user"),
        user_line=config.line("user"),
        secret_line=next((each.line for each in map(config.said.get, _KEYS) if each and each.word(1) == "[inline]"), 0),
        remarks=tuple(config.remarks),
    )


def _take(config: _Config, each: Directive) -> None:
    if each.name == "setenv" and each.word(1) == "opt" and each.word(2):
        each = replace(each, words=each.words[2:])
    way = _way(config.way, each)
    if way is not None:
        config.way = way
    elif each.name == "remote":
        config.remotes.append((each, None))
    elif each.inner is not None:
        _block(config, each)
    elif each.name == "config":
        message = f"the config goes on in another file, {shown(each.word(1))}, which is not looked into"
        config.refuse(each.line, message, "put its lines here: the lock must know every server", Code.CONFIG_ELSEWHERE)
    elif each.name in _HOOKS:
        config.hooks.append((each.name, " ".join(each.words[1:]), each.line))
    elif each.name not in config.said and (close := get_close_matches(each.name, _CRUCIAL, n=1, cutoff=0.85)) and _is_typo(each):
        config.refuse(each.line, f"OpenVPN knows no option {shown(each.name)}", f"did you mean {close[0]}?", Code.CONFIG_BAD_LINE)
    config.said[each.name] = each


# Of OpenVPN 2.6's 297 options the only two that look like one of the crucial ones, and are none.
_OTHERS = ("lport", "ifconfig")


def _is_typo(each: Directive) -> bool:
    return each.name not in (*_CRUCIAL, *_OTHERS)


def _way(way: _Way, each: Directive) -> _Way | None:
    """Return the way as an option changes it; None for an option that changes none."""
    match each.name:
        case "proto":
            return replace(way, protocol=each.word(1))
        case "port" | "rport":
            return replace(way, port=each.word(1))
        case "http-proxy":
            return replace(way, http=each)
        case "socks-proxy":
            return replace(way, socks=each)
        case _:
            return None


def _block(config: _Config, block: Directive) -> None:
    way, remote = config.way, None
    for each in block.inner or ():
        way = _way(way, each) or way
        remote = each if each.name == "remote" else remote
    if remote is None:
        config.refuse(
            block.line, "<connection> has no remote", "add remote ADDRESS PORT, or remove the block", Code.CONFIG_BAD_LINE
        )
    else:
        config.blocks.append((remote, way))


def _must_be_a_client(config: _Config) -> None:
    for name in ("server", "server-bridge", "server-ipv6", "tls-server"):
        if name in config.said:
            message = f"this is a server's config ({name}): the lock is for the client's"
            config.refuse(config.line(name), message, "name the client's config", Code.CONFIG_NOT_WG)
    if config.word("mode") == "server":
        config.refuse(config.line("mode"), "this is a server's config (mode server)", "name the client's", Code.CONFIG_NOT_WG)


def _remotes(config: _Config) -> Iterator[Remote]:
    """Yield where OpenVPN connects to itself: its servers, or the proxy that it reaches one by."""
    given: Iterable[tuple[Directive, _Way | None]] = config.blocks or config.remotes
    forced = {"tcp": Protocol.TCP, "udp": Protocol.UDP}.get(config.word("proto-force"))
    for remote, before in given:
        way = before or config.way
        words = replace(way, port=remote.word(2) or way.port, protocol=remote.word(3) or way.protocol)
        protocol = _PROTOCOLS.get(words.protocol)
        if protocol is None:
            options = "udp, tcp, or tcp-client (with 4 or 6 for one family)"
            config.refuse(remote.line, f"{named(remote)}: {shown(words.protocol)} is no client's protocol", f"write {options}")
        elif forced in (None, protocol):
            yield from _reached(config, remote, words, protocol)


def _reached(config: _Config, remote: Directive, way: _Way, protocol: Protocol) -> Iterator[Remote]:
    proxy = way.http or way.socks
    if proxy is None:
        yield from _site(config, remote, remote.word(1), way.port, protocol)
    elif protocol is Protocol.TCP:
        yield from _site(config, proxy, proxy.word(1), proxy.word(2) or (_SOCKS_PORT if way.socks else ""), Protocol.TCP)
    elif way.http:
        config.refuse(proxy.line, "http-proxy carries TCP only, and this remote is UDP", "write proto tcp-client")
    else:
        message = "socks-proxy with UDP: the proxy chooses a port for each connection, which no lock can know beforehand"
        config.refuse(proxy.line, message, "use a TCP remote: proto tcp-client")


def _site(config: _Config, at: Directive, host: str, port: str, protocol: Protocol) -> Iterator[Remote]:
    if not host:
        config.refuse(at.line, f"{at.name} names no host", f"write {at.name} ADDRESS PORT")
        return
    try:
        yield Remote(typed(lambda _: addresses.site(host, port, protocol), host, at.name), at.line)
    except Mistake as wrong:
        remedy = wrong.help if "is no port" not in wrong.message else "a number from 1 to 65535; OpenVPN's usual one is 1194"
        config.refuse(at.line, wrong.message, remedy)


def _mark(config: _Config) -> Mark | None:
    text, line = config.word("mark"), config.line("mark")
    if not line:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= _LARGEST_MARK:
        return Mark(int(text))
    if text.isascii() and text.isdigit() and int(text[:11]) == 0:
        return None
    config.refuse(line, f"mark {shown(text)}: OpenVPN reads a decimal number", f"from 1 to {_LARGEST_MARK}, such as 51820")
    return None


def _addresses(config: _Config) -> Iterator[Sited[InterfaceAddress]]:
    """Yield the addresses that the config itself gives; a server gives them otherwise, with each connection."""
    for name in ("ifconfig", "ifconfig-ipv6"):
        each = config.said.get(name)
        if each is None:
            continue
        try:
            yield Sited(typed(addresses.interface_address, each.word(1), name), f"{config.source.path}:{each.line}")
        except Mistake as wrong:
            config.refuse(each.line, wrong.message, wrong.help)


def _device(config: _Config) -> str:
    """Return the interface's name: `dev tun` takes the first number that is free, which is 0 on most machines."""
    name = config.word("dev")
    return f"{name}0" if name in ("tun", "tap") else name


def _remark(config: _Config) -> None:
    config.remarks += own_firewall(config.source, config.hooks)
    name = config.word("dev")
    if name in ("tun", "tap"):
        message = f"dev {name} takes the first number that is free: beside another tunnel it is not {name}0"
        config.warn(config.line("dev"), Code.CONFIG_OTHER_NAME, message, f"write dev {name}0")
    elif not name or name == "null":
        config.refuse(config.line("dev"), "the config names no device", "write dev tun0", Code.CONFIG_BAD_VALUE)
    if "remote-random-hostname" in config.said:
        message = "remote-random-hostname asks for another name each time: the lock can't know its addresses"
        config.warn(config.line("remote-random-hostname"), Code.CONFIG_MOVING, message, "remove it, and pin the server's addresses")
    if "float" in config.said:
        message = "float lets the server go on from another address: the lock lets the tunnel talk to its remotes only"
        config.warn(config.line("float"), Code.CONFIG_MOVING, message, "remove it; the tunnel connects anew instead")
    if "persist-tun" in config.said and len({each.word(1) for each, _ in config.blocks or config.remotes}) > 1:
        message = "persist-tun keeps the routes into the dead tunnel, and OpenVPN never reaches another remote than the last one"
        config.warn(config.line("persist-tun"), Code.CONFIG_STUCK, message, "remove it: the lock holds while the tunnel is away")
    if config.word("user") in _SHARED:
        message = f"OpenVPN becomes {config.word('user')}, as other programs do: with the tunnel's mark they would pass for it"
        config.warn(config.line("user"), Code.CONFIG_SHARED_OWNER, message, "make a user of its own: useradd --system openvpn")
    if not _is_full(config):
        message = "not everything is routed into the tunnel: with the lock armed, what does not go into it goes nowhere"
        config.warn(config.line("route-nopull") or config.line("dev"), Code.CONFIG_NOT_FULL, message, "add redirect-gateway def1")


def _is_full(config: _Config) -> bool:
    """Whether everything may go into the tunnel. A server that is asked for its routes may say so; else the config must."""
    if "redirect-gateway" in config.said or config.word("route") in ("0.0.0.0", "default"):
        return True
    if config.word("route", 2) == str(IPv4Network("0.0.0.0/1").netmask):
        return True
    return ("client" in config.said or "pull" in config.said) and "route-nopull" not in config.said

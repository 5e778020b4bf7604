"""Reads systemd-networkd's WireGuard: NAME.netdev with its drop-ins, and the .network beside it that gives the addresses.

As systemd.netdev(5), systemd.network(5) and systemd.syntax(7) say: names are told by case, and a drop-in's value wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from failshut.config import addresses, values
from failshut.config.formats.ini import SYSTEMD, Entry, Section, read_sections, source_of
from failshut.config.formats.tunnel_config import Remote, Sited, TunnelConfig, covers_everything, decoded, not_text, place
from failshut.config.formats.wireguard import endpoint, network, require_key, typed
from failshut.config.mistake import Mistake, shown
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import InterfaceAddress, Mark, Prefix

_PROGRAM = "systemd-networkd"
_SECRETS = frozenset({"privatekey", "presharedkey", "publickey", "password"})
# systemd's own names of tables (systemd.network(5), RouteTable=).
_TABLES = {"default": 253, "main": 254, "local": 255}


@dataclass(frozen=True, slots=True)
class _File:
    """One file, read."""

    source: SourceText
    sections: list[Section]

    def named(self, *names: str) -> Iterator[Section]:
        """Yield the sections of these names."""
        return (each for each in self.sections if each.name in names)


def _file(text: str, path: str) -> tuple[_File, list[Finding]]:
    source = source_of(text, path, _SECRETS)
    strange = not_text(text, source, program=_PROGRAM, takes_bom=True)
    if strange:
        return _File(source, []), [strange]
    sections, findings = read_sections(text.removeprefix("\ufeff"), source, SYSTEMD)
    return _File(source, sections), findings


@dataclass(slots=True)
class _Found:
    """The .netdev and its drop-ins, and what is wrong with them."""

    files: list[_File] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def main(self) -> SourceText:
        """The .netdev itself."""
        return self.files[0].source

    def sections(self, *names: str) -> Iterator[tuple[SourceText, Section]]:
        """Yield the sections of these names with the file they stand in, in the order in which systemd reads them."""
        return ((file.source, each) for file in self.files for each in file.named(*names))

    def first_own(self, section: str, key: str = "") -> int:
        """Return the line in the .netdev itself where a section, or a key of it, stands first; 0 without."""
        sections = self.files[0].named(section)
        lines = (entry.line for each in sections for entry in each.all(key)) if key else (each.line for each in sections)
        return next(iter(lines), 0)

    def last(self, name: str, key: str) -> tuple[SourceText, Entry] | None:
        """Return what counts of a key that counts once."""
        known = [(source, entry) for source, each in self.sections(name) for entry in each.all(key)]
        return known[-1] if known else None

    def refuse(self, source: SourceText, line: int, wrong: Mistake) -> None:
        """Note a mistake."""
        self.findings.append(source.mistake(wrong, place(source, line)))


def read_tunnel(text: bytes | str, path: str, beside: Mapping[str, bytes]) -> TunnelConfig | list[Finding]:
    """Read a .netdev; `beside` are its drop-ins and the .network files of its directory, by path. Never raises."""
    found = _Found()
    texts = {path: text, **{each: beside[each] for each in sorted(beside) if each.startswith(f"{path}.d/")}}
    for each, content in texts.items():
        file, findings = _file(decoded(content), each)
        found.files.append(file)
        found.findings += findings
    if found.findings:
        return found.findings
    main = found.main
    kind = found.last("NetDev", "Kind")
    if kind is None or kind[1].value != "wireguard":
        return [_other_kind(main, kind)]
    name = found.last("NetDev", "Name")
    if name is None:
        return [main.finding(Code.CONFIG_BAD_VALUE, "[NetDev] has no Name", help="add Name=wg0")]
    networks = _networks(beside, name[1].value)
    remotes = tuple(_remotes(found))
    mark = _mark(found)
    table = _table(found)
    addresses = tuple(_addresses(found, networks))
    remarks = tuple(_routes(found, networks, has_table=table is not None))
    _keys(found)
    if found.findings:
        return found.findings
    return TunnelConfig(
        path=path,
        kind=TunnelKind.NETWORKD,
        source=main,
        remotes=remotes,
        interface=name[1].value,
        fwmark=mark[0] if mark else None,
        fwmark_where=mark[1] if mark else "",
        addresses=addresses,
        # What stands in the main table is looked up there anyway.
        table=table if table not in _TABLES.values() else None,
        secret_line=found.first_own("WireGuard", "PrivateKey") or found.first_own("WireGuardPeer", "PresharedKey"),
        peer_line=found.first_own("WireGuardPeer"),
        remarks=remarks,
    )


def _other_kind(main: SourceText, kind: tuple[SourceText, Entry] | None) -> Finding:
    if kind is None:
        return main.finding(Code.CONFIG_NOT_WG, "[NetDev] has no Kind", help="a WireGuard tunnel's says Kind=wireguard")
    remedy = 'name what carries it in the policy instead of `config`: endpoints = ["ADDRESS:PORT"]'
    message = f"Kind is {shown(kind[1].value)}: of systemd-networkd's devices only wireguard names its endpoints"
    return kind[0].finding(Code.CONFIG_NOT_WG, message, place(kind[0], kind[1].line), remedy)


def _keys(found: _Found) -> None:
    for source, section in found.sections("WireGuard", "WireGuardPeer"):
        for name in ("PrivateKey", "PublicKey", "PresharedKey"):
            for entry in section.all(name):
                # A value that begins so names one of systemd's credentials (systemd.netdev(5)).
                if entry.value and not entry.value.startswith("@"):
                    try:
                        require_key(entry.value, name)
                    except Mistake as wrong:
                        found.refuse(source, entry.line, wrong)
        if section.name == "WireGuardPeer" and source is found.main and section.last("PublicKey") is None:
            message = "this [WireGuardPeer] has no PublicKey; systemd-networkd ignores it"
            found.refuse(source, section.line, Mistake(Code.CONFIG_BAD_VALUE, message, "add the server's PublicKey"))


def _remotes(found: _Found) -> Iterator[Remote]:
    for source, section in found.sections("WireGuardPeer"):
        entry = section.last("Endpoint")
        if entry is None or not entry.value:
            continue
        try:
            site = endpoint(entry.value, sign="=")
        except Mistake as wrong:
            found.refuse(source, entry.line, wrong)
        else:
            yield Remote(site, entry.line if source is found.main else 0)


def _mark(found: _Found) -> tuple[Mark | None, str] | None:
    said = found.last("WireGuard", "FirewallMark")
    if said is None or not said[1].value:
        return None
    source, entry = said
    try:
        number = typed(values.mark_number, entry.value, "FirewallMark")
        mark = typed(values.mark, number, "FirewallMark") if number else None
    except Mistake as wrong:
        found.refuse(source, entry.line, wrong)
        return None
    return mark, f"{source.path}:{entry.line}"


def _table(found: _Found) -> int | None:
    """Return the table that networkd puts the routes of AllowedIPs into, of the device or of the first peer; None for none."""
    said = found.last("WireGuard", "RouteTable") or found.last("WireGuardPeer", "RouteTable")
    if said is None or said[1].value in ("", "off"):
        return None
    text = said[1].value
    number = _TABLES.get(text, int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0)
    if 1 <= number <= 0xFFFFFFFF:
        return number
    found.refuse(said[0], said[1].line, Mistake(Code.CONFIG_BAD_VALUE, f"RouteTable {shown(text)} is no number", "such as 1000"))
    return None


def _networks(beside: Mapping[str, bytes], name: str) -> list[_File]:
    """Return the .network that applies to the interface, the first by its file's name, and its drop-ins."""
    for path in sorted((each for each in beside if each.endswith(".network")), key=lambda each: each.rpartition("/")[2]):
        applying, _ = _file(decoded(beside[path]), path)
        patterns = [word for each in applying.named("Match") for entry in each.all("Name") for word in entry.value.split()]
        if any(fnmatchcase(name, each) for each in patterns):
            dropped = sorted(each for each in beside if each.startswith(f"{path}.d/"))
            return [applying, *(_file(decoded(beside[each]), each)[0] for each in dropped)]
    return []


def _addresses(found: _Found, networks: list[_File]) -> Iterator[Sited[InterfaceAddress]]:
    for file in networks:
        for entry in (entry for section in file.named("Network", "Address") for entry in section.all("Address")):
            try:
                if entry.value:
                    yield Sited(typed(addresses.interface_address, entry.value, "Address"), f"{file.source.path}:{entry.line}")
            except Mistake as wrong:
                found.refuse(file.source, entry.line, wrong)


def _routes(found: _Found, networks: list[_File], *, has_table: bool) -> Iterator[Finding]:
    """Warn of a tunnel that not everything goes into: of its peers' AllowedIPs, or for want of any route."""
    allowed: list[Prefix] = []
    main = found.main
    for source, section in found.sections("WireGuardPeer"):
        for entry in section.all("AllowedIPs"):
            for word in entry.value.replace(",", " ").split():
                try:
                    allowed.append(typed(network, word, "AllowedIPs"))
                except Mistake as wrong:
                    found.refuse(source, entry.line, wrong)
    at = place(main, found.first_own("WireGuardPeer"))
    if not covers_everything(allowed):
        message = "AllowedIPs do not cover all addresses: with the lock armed, what does not go into the tunnel goes nowhere"
        remedy = "for a VPN that carries everything write AllowedIPs=0.0.0.0/0,::/0"
        yield main.finding(Code.CONFIG_NOT_FULL, message, at, remedy, Severity.WARNING)
    elif not has_table and not _leads_in(networks):
        message = "nothing routes into the tunnel: systemd-networkd makes no route of AllowedIPs without RouteTable"
        remedy = "RouteTable=main in [WireGuard], or [Route] with Destination=0.0.0.0/0 in its .network"
        yield main.finding(Code.CONFIG_NOT_FULL, message, at, remedy, Severity.WARNING)


def _leads_in(networks: list[_File]) -> bool:
    """Whether the .network itself makes a route."""
    return any(each.name == "Route" or each.last("Gateway") for file in networks for each in file.named("Route", "Network"))

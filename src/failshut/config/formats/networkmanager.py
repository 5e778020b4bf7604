"""Reads NetworkManager's WireGuard: a keyfile (NAME.nmconnection), as nm-settings-keyfile(5) and GLib's key files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from failshut.config import addresses, values
from failshut.config.formats.ini import GLIB, Entry, Section, read_sections, source_of
from failshut.config.formats.tunnel_config import Remote, Sited, TunnelConfig, covers_everything, decoded, not_text, place
from failshut.config.formats.wireguard import endpoint, network, require_key, typed
from failshut.config.mistake import Mistake, shown
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import InterfaceAddress, Mark, Prefix

_PROGRAM = "NetworkManager"
_SECRETS = frozenset({"private-key", "preshared-key", "psk", "password", "data"})
_PEER = "wireguard-peer."


@dataclass(slots=True)
class _Found:
    """The file's groups; one that stands twice is one, and a key's last value counts (GKeyFile)."""

    source: SourceText
    groups: dict[str, Section] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def entry(self, group: str, key: str) -> Entry | None:
        """Return what counts of a key."""
        found = self.groups.get(group)
        return found.last(key) if found else None

    def value(self, group: str, key: str) -> str:
        """Return its value, "" where it is not said."""
        found = self.entry(group, key)
        return found.value if found else ""

    def line(self, group: str, key: str = "") -> int:
        """Return where a key, or a group, stands; 0 for nowhere."""
        found = self.entry(group, key) if key else self.groups.get(group)
        return found.line if found else 0

    def peers(self) -> Iterator[Section]:
        """Yield the peers' groups."""
        return (each for name, each in self.groups.items() if name.startswith(_PEER))

    def refuse(self, line: int, message: str, remedy: str, code: Code = Code.CONFIG_BAD_VALUE) -> None:
        """Note a mistake."""
        self.findings.append(self.source.finding(code, message, place(self.source, line), remedy))

    def mistaken(self, line: int, wrong: Mistake) -> None:
        """Note the mistake of a value's reader."""
        self.findings.append(self.source.mistake(wrong, place(self.source, line)))


def read_tunnel(text: bytes | str, path: str) -> TunnelConfig | list[Finding]:
    """Read a connection. Never raises."""
    text = decoded(text)
    source = source_of(text, path, _SECRETS)
    strange = not_text(text, source, program=_PROGRAM)
    if strange:
        return [strange]
    sections, findings = read_sections(text, source, GLIB)
    found = _Found(source, findings=findings)
    for each in sections:
        found.groups.setdefault(each.name, Section(each.name, each.line)).entries.extend(each.entries)
    if not findings and found.value("connection", "type") != "wireguard":
        _refuse_type(found)
    if found.findings:
        return found.findings
    _keys(found)
    remotes, addresses, mark = tuple(_remotes(found)), tuple(_addresses(found)), _mark(found)
    remarks = tuple(_not_full(found))
    name = found.value("connection", "interface-name")
    if not name:
        found.refuse(found.line("connection"), "[connection] has no interface-name: a WireGuard connection needs one", "add it")
    if found.findings:
        return found.findings
    return TunnelConfig(
        path=path,
        kind=TunnelKind.NETWORK_MANAGER,
        source=source,
        remotes=remotes,
        interface=name,
        fwmark=mark,
        fwmark_where=f"{path}:{found.line('wireguard', 'fwmark')}" if mark else "",
        addresses=addresses,
        secret_line=found.line("wireguard", "private-key"),
        peer_line=next((each.line for each in found.peers()), 0),
        remarks=remarks,
    )


def _refuse_type(found: _Found) -> None:
    kind, line = found.value("connection", "type"), found.line("connection", "type")
    if kind == "vpn":
        service = found.value("vpn", "service-type").rpartition(".")[2] or "VPN"
        message = f"this is a connection of NetworkManager's {service} plugin, which can't give its packets a mark"
        remedy = "run the provider's own config instead, by openvpn-client@ or wg-quick@, and name that one"
        found.refuse(line, message, remedy, Code.CONFIG_NOT_WG)
    elif not kind:
        found.refuse(found.line("connection"), "[connection] has no type", "a tunnel's says type=wireguard", Code.CONFIG_NOT_WG)
    else:
        found.refuse(line, f"this connection is {shown(kind)}, no WireGuard", "name the tunnel's own file", Code.CONFIG_NOT_WG)


def _keys(found: _Found) -> None:
    # Without one the secret is in a keyring, or asked for.
    private = found.entry("wireguard", "private-key")
    for entry in (each for each in (private, *(peer.last("preshared-key") for peer in found.peers())) if each and each.value):
        try:
            require_key(entry.value, entry.key)
        except Mistake as wrong:
            found.mistaken(entry.line, wrong)
    for peer in found.peers():
        try:
            require_key(peer.name.removeprefix(_PEER), "the peer's public key, in the group's name,")
        except Mistake as wrong:
            found.mistaken(peer.line, wrong)


def _remotes(found: _Found) -> Iterator[Remote]:
    for peer in found.peers():
        entry = peer.last("endpoint")
        if entry is None or not entry.value:
            continue
        try:
            yield Remote(endpoint(entry.value, "endpoint", "="), entry.line)
        except Mistake as wrong:
            found.mistaken(entry.line, wrong)


def _mark(found: _Found) -> Mark | None:
    entry = found.entry("wireguard", "fwmark")
    if entry is None:
        return None
    try:
        number = typed(values.mark_number, entry.value, "fwmark")
        mark: Mark | None = typed(values.mark, number, "fwmark") if number else None
    except Mistake as wrong:
        found.mistaken(entry.line, wrong)
        return None
    return mark


def _addresses(found: _Found) -> Iterator[Sited[InterfaceAddress]]:
    for group in ("ipv4", "ipv6"):
        section = found.groups.get(group)
        for entry in section.entries if section else ():
            if not entry.key.startswith("address") or not entry.key.removeprefix("address").isdigit():
                continue
            try:
                # ADDRESS/LENGTH[,GATEWAY]
                address = typed(addresses.interface_address, entry.value.partition(",")[0].strip(), entry.key)
                yield Sited(address, f"{found.source.path}:{entry.line}")
            except Mistake as wrong:
                found.mistaken(entry.line, wrong)


def _not_full(found: _Found) -> Iterator[Finding]:
    allowed: list[Prefix] = []
    for peer in found.peers():
        for entry in peer.all("allowed-ips"):
            for word in entry.value.replace(",", ";").split(";"):
                try:
                    if word.strip():
                        allowed.append(typed(network, word.strip(), "allowed-ips"))
                except Mistake as wrong:
                    found.mistaken(entry.line, wrong)
    line, message, remedy = 0, "", ""
    if found.value("wireguard", "peer-routes").lower() in ("false", "0", "no"):
        line, message = found.line("wireguard", "peer-routes"), "peer-routes=false: NetworkManager makes no route into the tunnel"
        remedy = "remove it, unless your own routes lead there"
    elif not covers_everything(allowed):
        line = next((each.line for each in found.peers()), 0)
        message = "allowed-ips do not cover all addresses: with the lock armed, what does not go into the tunnel goes nowhere"
        remedy = "for a VPN that carries everything write allowed-ips=0.0.0.0/0;::/0;"
    if message:
        yield found.source.finding(Code.CONFIG_NOT_FULL, message, place(found.source, line), remedy, Severity.WARNING)

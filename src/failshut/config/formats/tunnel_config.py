"""A tunnel's own config, whatever its format: where it leads, what marks its packets, what it calls its interface. Keeps no key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding, Severity
from failshut.model.policy import TunnelKind
from failshut.model.units import Endpoint, InterfaceAddress, Mark, NamedEndpoint, Prefix

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sited(Generic[T]):
    """A value and where it was written, as file:line."""

    value: T
    where: str


@dataclass(frozen=True, slots=True)
class Remote:
    """A place at which the peer is reached. Lines count from 1; 0 is the file as a whole."""

    site: Endpoint | NamedEndpoint
    line: int


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """What the lock must know of a config.

    `interface` is what the config's program calls the interface, "" where that is not said. `user` is who the program becomes,
    "" for root. `secret_line` is where a private key stands in the file itself (0: nowhere). `remarks` are warnings; what forbids
    the config is no `TunnelConfig` but a list of findings.
    """

    path: str
    kind: TunnelKind
    source: SourceText = field(repr=False, compare=False)
    remotes: tuple[Remote, ...] = ()
    interface: str = ""
    fwmark: Mark | None = None
    # As file:line, for a message: a drop-in may say it.
    fwmark_where: str = ""
    addresses: tuple[Sited[InterfaceAddress], ...] = ()
    table: int | None = None
    user: str = ""
    user_line: int = 0
    secret_line: int = 0
    # Where to point when no remote is named, and what it would be called.
    peer_line: int = 0
    remarks: tuple[Finding, ...] = ()


def place(source: SourceText, number: int) -> tuple[int, int, int]:
    """Return (line, column, length) of what a line says, without the white space around it; line 0 is the file as a whole."""
    text = source.lines[number - 1] if 0 < number <= len(source.lines) else ""
    return (number, len(text) - len(text.lstrip()) + 1, max(len(text.strip()), 1))


def not_text(text: str, source: SourceText, *, program: str, takes_bom: bool = False) -> Finding | None:
    """Return why a text can't be a config at all: NUL bytes, or a byte-order mark that its program refuses."""
    if "\0" in text:
        return source.finding(Code.CONFIG_NOT_WG, f"the file holds NUL bytes: it is no config of {program}'s")
    if text.startswith("\ufeff") and not takes_bom:
        remedy = f"remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' {source.path}"
        message = f"the file begins with a byte-order mark, which {program} refuses"
        return source.finding(Code.CONFIG_NOT_WG, message, (1, 1, 1), remedy)
    return None


def decoded(raw: bytes | str) -> str:
    """Return a file's text: a stray byte matters only where a value is read."""
    return raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw


def covers_everything(prefixes: Iterable[Prefix]) -> bool:
    """Whether prefixes hold all of IPv4 or all of IPv6, in one piece or in two halves."""
    known = {each for each in prefixes if each.prefixlen <= 1}
    return any(
        sum(2 ** (width - each.prefixlen) for each in known if each.max_prefixlen == width) >= 2**width for width in (32, 128)
    )


# What a hook may not be: a second kill switch, in the words of the tools that make one.
_FIREWALL = re.compile(r"(?<![\w.-])(ip6?tables(-[\w-]+)?|nft|ufw|firewall-cmd|ebtables)(?![\w-])")


def own_firewall(source: SourceText, hooks: Iterable[tuple[str, str, int]]) -> Iterator[Finding]:
    """Warn of hooks, each (when, command, line), that run a firewall beside the lock."""
    for when, command, line in hooks:
        tool = _FIREWALL.search(command)
        if tool:
            message = f"{when} runs {tool[0]}: a firewall of the tunnel's own beside the lock"
            remedy = "the lock does not need it; remove the line once the lock is armed, so that one place says what may leave"
            yield source.finding(Code.CONFIG_OWN_FIREWALL, message, place(source, line), remedy, Severity.WARNING)

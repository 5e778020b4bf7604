"""What every WireGuard config says alike, whoever reads it: keys, endpoints, allowed addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from failshut.config import addresses
from failshut.config.mistake import Mistake, shown
from failshut.model.finding import Code
from failshut.model.units import Endpoint, NamedEndpoint, Prefix, Protocol

# base64 of 32 bytes: the last of the 43 digits carries 4 bits only.
_WG_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


def require_key(value: str, name: str) -> None:
    """Refuse what is no WireGuard key."""
    if not _WG_KEY.fullmatch(value):
        raise Mistake(Code.CONFIG_BAD_VALUE, f"{name} is no WireGuard key", "a key is 32 bytes in base64: 43 characters and a '='")


def typed(reader: Callable[[str], Any], text: str, name: str) -> Any:
    """Read a value of the policy's own kind; its mistake becomes one of the tunnel's config."""
    try:
        return reader(text)
    except Mistake as wrong:
        raise Mistake(Code.CONFIG_BAD_VALUE, f"{name}: {wrong.message}", wrong.help) from None


def count(value: str, name: str, most: int) -> int:
    """Read a number from 0 to `most`."""
    if re.fullmatch(r"[0-9]{1,10}", value) and int(value) <= most:
        return int(value)
    raise Mistake(Code.CONFIG_BAD_VALUE, f"{name}: {shown(value)} is no number", f"write a number from 0 to {most}")


def endpoint(value: str, name: str = "Endpoint", sign: str = " = ") -> Endpoint | NamedEndpoint:
    """Read `host:port` as wg's parse_endpoint: the port stands behind the last ':', or behind the brackets."""
    if value.startswith("["):
        host, bracket, tail = value[1:].partition("]")
        port = tail[1:] if bracket and tail.startswith(":") else ""
    else:
        host, _, port = value.rpartition(":")
    if not host or not port:
        remedy = f"write {name}{sign}{value}:51820"
        raise Mistake(Code.CONFIG_BAD_VALUE, f"{name} {shown(value)} has no port", remedy)
    found: Endpoint | NamedEndpoint = typed(lambda _: addresses.site(host, port, Protocol.UDP), value, name)
    return found


def network(text: str) -> Prefix:
    """Read one allowed address as wg's parse_allowedips: host bits are dropped, no length means a single address."""
    return addresses.interface_address(text).network

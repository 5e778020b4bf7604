"""The kinds of answer that a template may ask for: each reads text into a typed value, so that nothing else gets into a config."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from failshut.config import addresses as one
from failshut.config import values
from failshut.config.mistake import Mistake, shown
from failshut.model.finding import Code
from failshut.model.units import Address, Endpoint, InterfaceName, NamedEndpoint, Port, Prefix

# A peer's name stands in a comment of a config, in a file's name and in a metric's label.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# As many as anyone keeps by hand; each is a file and a pair of keys.
_MOST_NAMES = 100
# Networks of peers: wide enough for two, and not so wide that they cover a site's whole address plan.
_WIDEST4, _NARROWEST4 = 16, 30
_WIDEST6, _NARROWEST6 = 48, 124


def words(text: str) -> list[str]:
    """Return the parts of a list that commas or spaces separate."""
    return [each for each in re.split(r"[,\s]+", text) if each]


def name(text: str) -> str:
    """Return a machine's name."""
    if not _NAME.fullmatch(text) or text.endswith("."):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} can't be a name", "1 to 32 letters, digits and _ . - , such as anna-phone")
    return text


def names(text: str) -> tuple[str, ...]:
    """Return several names, no two the same."""
    found = tuple(name(each) for each in text.split(",")) if text else ()
    for each in found:
        if [other.lower() for other in found].count(each.lower()) > 1:
            raise Mistake(Code.BAD_VALUE, f"the name {shown(each)} stands there twice", "each machine has a name of its own")
    if len(found) > _MOST_NAMES:
        raise Mistake(Code.BAD_VALUE, f"{len(found)} names are more than {_MOST_NAMES}", "add the others with `server add-peer`")
    if not found:
        raise Mistake(Code.BAD_VALUE, "expected a name, found none", "such as: laptop,phone")
    return found


def endpoint(text: str) -> Endpoint | NamedEndpoint:
    """Return where a WireGuard server is reached; the port may be left out."""
    bare = text.count(":") == 0 or (text.startswith("[") and text.endswith("]"))
    found = one.endpoint(f"{text}:51820" if bare and "://" not in text else text)
    if found.protocol != "udp":
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(text)}: WireGuard speaks UDP", "leave tcp:// out")
    return found


def endpoint_address(text: str) -> Endpoint:
    """Return where a server is reached, which must be an address."""
    found = endpoint(text)
    if isinstance(found, NamedEndpoint):
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(text)} is a name", "an address is wanted here: it stands in a route")
    return found


def network4(text: str) -> IPv4Network:
    """Return the IPv4 network that the peers' addresses are taken from."""
    found = one.prefix(text)
    if not isinstance(found, IPv4Network) or not _WIDEST4 <= found.prefixlen <= _NARROWEST4:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} can't be the peers' network", "an IPv4 network from /16 to /30: 10.86.0.0/24")
    return found


def network6(text: str) -> IPv6Network:
    """Return the IPv6 network that the peers' addresses are taken from."""
    found = one.prefix(text)
    if not isinstance(found, IPv6Network) or not _WIDEST6 <= found.prefixlen <= _NARROWEST6:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} can't be the peers' network", "an IPv6 network from /48 to /124: fd86::/64")
    return found


def doubt(network: Prefix) -> str:
    """Return what speaks against a network of peers that is taken all the same; nothing where nothing does."""
    if one.is_local(network):
        return ""
    own = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10" if network.version == 4 else "fd00::/8"
    return f"{network} is public address space, and who has it on the Internet can't be reached by the peers: take one of {own}"


def prefixes(text: str) -> tuple[Prefix, ...]:
    """Return several networks."""
    return tuple(one.prefix(each) for each in words(text))


def addresses(text: str) -> tuple[Address, ...]:
    """Return several machines' addresses."""
    return tuple(one.host_address(each) for each in words(text))


def port(text: str) -> Port:
    """Return a port."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no port", "a number from 1 to 65535")
    return values.port(int(text))


def device(text: str) -> InterfaceName:
    """Return a network device's name."""
    return values.device(text)


KINDS: dict[str, Callable[[str], Any]] = {
    "name": name,
    "names": names,
    "endpoint": endpoint,
    "endpoint-address": endpoint_address,
    "network4": network4,
    "network6": network6,
    "prefixes": prefixes,
    "addresses": addresses,
    "port": port,
    "device": device,
}


def read(kind: str, text: str) -> Any:
    """Return an answer's value. Raises `Mistake`."""
    if any(not each.isprintable() for each in text):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} holds a line end or another control character", "retype it on one line")
    return KINDS[kind](text.strip())

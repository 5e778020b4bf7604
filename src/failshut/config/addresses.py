"""Reads one address, network, server or resolver: the typed value, or a `Mistake` that says what to write instead.

Every function here takes what TOML or a config line gave (any type), returns the typed value and raises only `Mistake`.
"""

from __future__ import annotations

import contextlib
import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network

from failshut.config.mistake import Mistake, shown, string
from failshut.model.finding import Code
from failshut.model.policy import Resolver
from failshut.model.units import Address, Endpoint, InterfaceAddress, NamedEndpoint, Port, Prefix, Protocol, prefix_of

# The prefixes that nobody routes on the Internet: RFC 1918, link-local, RFC 6598, ULA.
_LOCAL = tuple(
    ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10")
)
_PLAIN_PREFIX = re.compile(r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*)/[0-9]{1,3}")
_HOST_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_HOST_LABEL}(\.{_HOST_LABEL})*\.?")


def prefix(value: object) -> Prefix:
    """Return a network prefix; a bare address is the prefix of that one machine."""
    # Nearly all that is ever written; each would else be made three times, as an interface, its address and its network.
    if isinstance(value, str) and _PLAIN_PREFIX.fullmatch(value):
        with contextlib.suppress(ValueError):
            return prefix_of(value)
    text = string(value, "a network prefix")
    interface = _cidr(text)
    if interface is None:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no network prefix", _cidr_help(text, "192.168.1.0/24"))
    if interface.ip != interface.network.network_address:
        raise Mistake(
            Code.BAD_VALUE,
            f"{shown(text)} is an address within a network, not the network",
            f'the network is "{interface.network}"; for that one machine write "{interface.ip}"',
        )
    return interface.network


def interface_address(value: object) -> InterfaceAddress:
    """Return an address with its prefix length, as `ip address` shows it; without a length it is a single host."""
    text = string(value, "an address")
    interface = _cidr(text)
    if interface is None:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no interface address", _cidr_help(text, "10.99.0.2/32"))
    return interface


def _cidr(text: str) -> InterfaceAddress | None:
    # Not ip_interface() alone: it also takes netmasks, host masks and scopes, which nft would read differently or not at all.
    if not re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", text):
        return None
    try:
        return ip_interface(text)
    except ValueError:
        return None


def _cidr_help(text: str, example: str) -> str:
    address = text.partition("/")[0]
    try:
        ip_address(address)
    except ValueError:
        if _HOST.fullmatch(address) and re.search("[A-Za-z]", address):
            return "write the addresses, not a name: the lock must hold without DNS"
        return f'write an address and a length, such as "{example}" or "fd50::/64"'
    try:
        return f'write the length as a number: "{ip_interface(text)}"'
    except ValueError:
        return "the length behind '/' is a number from 0 to 32 (IPv4) or 128 (IPv6)"


def host_address(value: object) -> Address:
    """Return the address of one machine."""
    text = string(value, "an address")
    try:
        return _usable(ip_address(text))
    except ValueError as error:
        if isinstance(error, Mistake):
            raise
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no address", 'one machine\'s, such as "192.0.2.53"') from None


def is_local(network: Prefix) -> bool:
    """Return whether all of `network` is private, link-local or shared address space."""
    return any(network.version == each.version and network.subnet_of(each) for each in _LOCAL)  # type: ignore[arg-type]  # versions agree


def is_wider(network: Prefix, ipv4: int, ipv6: int) -> bool:
    """Return whether `network` is wider than /ipv4 or /ipv6, whichever it is."""
    return network.prefixlen < (ipv6 if isinstance(network, IPv6Network) else ipv4)


def endpoint(value: object) -> Endpoint | NamedEndpoint:
    """Return an endpoint: `host:port`, `[v6]:port`, with `tcp://` or `udp://` before it if wanted."""
    text = string(value, "an endpoint")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = Protocol.UDP, text
    if scheme.lower() not in tuple(Protocol):
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(scheme)} is no transport", 'begin with "udp://" (or nothing) or with "tcp://"')
    host, number = _host_and_port(rest)
    return site(host, number, Protocol(scheme.lower()))


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or not tail.startswith(":") or not tail[1:]:
            raise Mistake(Code.BAD_ENDPOINT, f"{shown(text)} has no port", f'write "[{host}]:51820" with the port of your provider')
        return host, tail[1:]
    host, colon, number = text.rpartition(":")
    if ":" in host:
        whole = _is_ipv6(text)
        better = f"[{text}]:51820" if whole and not _is_ipv6(host) else f"[{host}]:{number}"
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(text)}: an IPv6 address needs brackets before a port", f'write "{better}"')
    if not colon or not number:
        raise Mistake(
            Code.BAD_ENDPOINT, f"{shown(text)} has no port", f'write "{host or text}:51820" with the port of your provider'
        )
    return host, number


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def site(host: str, number: str, protocol: Protocol = Protocol.UDP) -> Endpoint | NamedEndpoint:
    """Return the endpoint of a host, address or name, and a port's digits."""
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65535):
        raise Mistake(
            Code.BAD_ENDPOINT, f"{shown(number)} is no port", "a port lies between 1 and 65535; WireGuard's usual one is 51820"
        )
    if "%" in host:
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(host)}: a scoped address can't be an endpoint", "use the peer's global address")
    try:
        address = ip_address(host)
    except ValueError:
        return NamedEndpoint(_host_name(host), Port(int(number)), protocol)
    return Endpoint(_usable(address), Port(int(number)), protocol)


def _host_name(host: str) -> str:
    if host.isascii() and re.fullmatch(r"[0-9.]+|0x[0-9A-Fa-f.x]+", host):
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(host)} is no IPv4 address", "four numbers from 0 to 255 without leading zeros")
    if ":" in host:
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(host)} is no IPv6 address", "such as [2001:db8::10]:51820")
    if not host.isascii():
        raise Mistake(
            Code.BAD_ENDPOINT, f"{shown(host)} is no host name", "write the name in its ASCII form (xn--…), or the address"
        )
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise Mistake(Code.BAD_ENDPOINT, f"{shown(host)} is neither an address nor a host name", 'such as "203.0.113.10:51820"')
    return host


def is_a_machine_s(address: Address) -> bool:
    """Return whether an address can be one machine's: not all zeros, a group's or everybody's."""
    return not (address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"))


def _usable(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        raise Mistake(Code.BAD_ENDPOINT, f"{address} is an IPv4 address in IPv6 clothes", f'write "{mapped}"')
    if not is_a_machine_s(address):
        raise Mistake(Code.BAD_ENDPOINT, f"{address} is no machine's address", "write the address of the VPN server")
    return address


def resolver(value: object) -> Resolver:
    """Return a resolver that answers over TLS: `ADDRESS[:PORT]#NAME`, the name being that of its certificate."""
    text = string(value, "a resolver")
    site_text, separator, name = text.partition("#")
    if not separator or not _HOST.fullmatch(name):
        remedy = 'write its address and the name in its certificate: "9.9.9.9#dns.quad9.net"'
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} does not say whose certificate to ask for", remedy)
    bare = re.fullmatch(r"[0-9.]+|\[?[0-9A-Fa-f:]+\]?", site_text) and not re.fullmatch(r"[0-9.]+:[0-9]+|\[.*\]:[0-9]+", site_text)
    if bare:
        return Resolver(host_address(site_text.strip("[]")), Port(853), name)
    where = endpoint(f"tcp://{site_text}")
    if isinstance(where, NamedEndpoint):
        raise Mistake(Code.BAD_VALUE, f"{shown(site_text)} is a name", "write the resolver's address: it must be found without DNS")
    return Resolver(where.address, where.port, name)

"""Reads one value, of a policy or of a tunnel's config: the typed value, or a `Mistake` that says what to write instead.

Every function here takes what TOML or a config line gave (any type), returns the typed value and raises only `Mistake`.
"""

from __future__ import annotations

import contextlib
import re
from datetime import date, datetime, time
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import TypeVar

from failshut.model.finding import Code
from failshut.model.policy import MulticastName, Resolver, Service
from failshut.model.units import (
    Address,
    Endpoint,
    InterfaceAddress,
    InterfaceName,
    Mark,
    NamedEndpoint,
    Port,
    Prefix,
    Protocol,
)

Choice = TypeVar("Choice", bound=StrEnum)

# What TOML calls the types that Python names otherwise; bool stands before int because it is one.
_TYPE_WORDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a float"),
    (list, "an array"),
    (dict, "a table"),
    (datetime, "a date"),
    (date, "a date"),
    (time, "a time"),
)

_PLAIN_PREFIX = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}/[0-9]{1,2}")

# The names wg-quick(8) accepts; they also pass unquoted through unit names, file names and nft strings.
_TUNNEL_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_PATTERN = re.compile(r"[a-zA-Z0-9_=+.@-]{1,15}\*?")
# Not devices of their own: the loopback, and the two pseudo-devices of /proc/sys/net/ipv4/conf.
_NO_TUNNEL = frozenset({"lo", "all", "default", ".", ".."})
_HOST_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_HOST_LABEL}(\.{_HOST_LABEL})*\.?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# The lock's own allowances carry these names in rule comments and in `status`.
_RESERVED_NAMES = frozenset({"lan", "dhcp", "ndp", "tunnel", "handshake"})
_SHOWN = 60


class Mistake(ValueError):  # noqa: N818 - the user's mistake, not the program's error
    """A value that can't be used: the finding's `code`, what is wrong, and what to write instead (`help`)."""

    def __init__(self, code: Code, message: str, help: str = "") -> None:  # noqa: A002 - Finding's own word
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def shown(value: object) -> str:
    """Return what the user wrote, quoted, on one line, printable and short: it goes to a terminal."""
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value))
    return f"'{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}'"


def type_word(value: object) -> str:
    """Return what TOML calls the type of `value`."""
    return next((word for kind, word in _TYPE_WORDS if isinstance(value, kind)), "something else")


def wrong_type(wanted: str, value: object, help: str = "") -> Mistake:  # noqa: A002 - Finding's own word
    """Return the mistake of a value of another type."""
    return Mistake(Code.WRONG_TYPE, f"expected {wanted}, found {type_word(value)}", help)


def string(value: object, wanted: str = "a string") -> str:
    """Return a non-empty string without control characters."""
    if not isinstance(value, str):
        raise wrong_type(wanted, value, f'put it in quotes: "{value}"' if type(value) is int else "")
    if not value.strip():
        raise Mistake(Code.BAD_VALUE, f"expected {wanted}, found an empty one", "fill it in, or remove the key")
    if any(ord(each) < 32 or ord(each) == 127 for each in value):
        raise Mistake(Code.BAD_VALUE, "a control character can't stand here", "retype the value")
    return value


def choice(value: object, options: type[Choice]) -> Choice:
    """Return the member of `options` with that value."""
    words = ", ".join(f'"{each}"' for each in options)
    if not isinstance(value, str):
        raise wrong_type(f"one of {words}", value)
    for option in options:
        if option.value == value:
            return option
    lowered = next((each for each in options if each.value == value.strip().lower()), None)
    raise Mistake(
        Code.BAD_VALUE, f"{shown(value)} is none of {words}", f'did you mean "{lowered}"?' if lowered else f"use one of {words}"
    )


def tunnel_name(value: object) -> InterfaceName:
    """Return the name of a tunnel's interface."""
    text = string(value, "an interface name")
    if text in _NO_TUNNEL:
        raise Mistake(
            Code.BAD_VALUE, f"{shown(text)} can't be a tunnel", "name the VPN's interface, as `ip link` shows it: wg0, tun0"
        )
    if not _TUNNEL_NAME.fullmatch(text):
        raise Mistake(
            Code.BAD_VALUE,
            f"{shown(text)} can't be the name of a tunnel interface",
            "1 to 15 letters, digits and _ = + . - ; `ip link` shows the names of this machine",
        )
    return InterfaceName(text)


def interface_pattern(value: object) -> str:
    """Return an interface name, or a prefix of names that ends in '*', as nft takes it."""
    text = string(value, "an interface name")
    if text == "*":
        raise Mistake(Code.BAD_VALUE, "'*' alone matches the tunnel too", "leave `interfaces` out: then any underlay is meant")
    if text == "lo":
        raise Mistake(Code.BAD_VALUE, "'lo' is the loopback, not a LAN", "remove it: the lock never touches loopback traffic")
    if "*" in text[:-1] or any(each in text for each in "?[]"):
        raise Mistake(
            Code.BAD_VALUE, f"{shown(text)}: only a '*' at the end is a wildcard", 'write the beginning and one star: "wl*"'
        )
    if not _PATTERN.fullmatch(text):
        raise Mistake(
            Code.BAD_VALUE,
            f"{shown(text)} can't be an interface name",
            "an alias such as eth0:1 is its interface, eth0" if ":" in text else "1 to 15 letters, digits and _ = + . @ -",
        )
    return text


def allowance_name(value: object) -> str:
    """Return the name of an allowance: it stands in rule comments and in `failshut status`."""
    text = string(value, "a name")
    if not _NAME.fullmatch(text):
        raise Mistake(
            Code.BAD_VALUE, f"{shown(text)} can't be a name", "1 to 32 letters, digits and _ . - , beginning with a letter or digit"
        )
    if text in _RESERVED_NAMES:
        raise Mistake(Code.BAD_VALUE, f"the name {shown(text)} is the lock's own", f'choose another: "my-{text}"')
    return text


def port(value: object) -> Port:
    """Return a port, 1..65535."""
    if isinstance(value, bool) or not isinstance(value, int):
        bare = isinstance(value, str) and value.isascii() and value.isdigit()
        raise wrong_type("a port number", value, f"write it without quotes: {value}" if bare else "a number from 1 to 65535")
    try:
        return Port(value)
    except ValueError:
        raise Mistake(Code.BAD_VALUE, f"{shown(value)} is no port", "a port lies between 1 and 65535") from None


def mark(value: object) -> Mark | None:
    """Return a fwmark from an integer or from the forms wg(8) takes: "0xca6c", "51820", and "off" (None)."""
    if isinstance(value, str):
        number = mark_number(value)
        if number == 0:
            return None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise wrong_type("a mark", value, 'write it as a number, 0xca6c, or "off"')
    if number == 0:
        raise Mistake(Code.BAD_VALUE, "a mark of 0 marks nothing", "leave fwmark out to get wg-quick's own, 0xca6c (51820)")
    try:
        return Mark(number)
    except ValueError:
        raise Mistake(
            Code.BAD_VALUE, f"{shown(value)} does not fit into the 32 bits of a mark", "use a mark such as 0xca6c"
        ) from None


def mark_number(text: str) -> int:
    """Return the number that wg(8) reads from `text`, 0 for "off"; wg takes '0x' only in lower case."""
    if text.isascii() and text.lower() == "off":
        return 0
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,20}", text):
        return int(text)
    raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no mark", 'a mark is a number such as 0xca6c or 51820, or "off"')


def prefix(value: object) -> Prefix:
    """Return a network prefix; a bare address is the prefix of that one machine."""
    # Nearly all that is ever written; each would else be made three times, as an interface, its address and its network.
    if isinstance(value, str) and _PLAIN_PREFIX.fullmatch(value):
        with contextlib.suppress(ValueError):
            return IPv4Network(value)
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


def _usable(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        raise Mistake(Code.BAD_ENDPOINT, f"{address} is an IPv4 address in IPv6 clothes", f'write "{mapped}"')
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise Mistake(Code.BAD_ENDPOINT, f"{address} is no machine's address", "write the address of the VPN server")
    return address


def is_wider(network: Prefix, ipv4: int, ipv6: int) -> bool:
    """Return whether `network` is wider than /ipv4 or /ipv6, whichever it is."""
    return network.prefixlen < (ipv6 if isinstance(network, IPv6Network) else ipv4)


def user(value: object) -> str | int:
    """Return a user's name or number."""
    if isinstance(value, int) and not isinstance(value, bool):
        # 2^32-1 is "no user" to the kernel.
        if 0 <= value < 0xFFFFFFFF:
            return value
        raise Mistake(Code.BAD_VALUE, f"{shown(value)} is no user number", "`id -u NAME` prints it")
    text = string(value, "a user's name or number")
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return user(int(text))
    return text


def service(value: object) -> Service:
    """Return a port or a range of ports of one protocol: `tcp/631`, `udp/60000-61000`."""
    text = string(value, "a service")
    found = re.fullmatch(r"(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?", text.lower())
    if not found:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no service", 'write the protocol and the port: "tcp/631", "udp/5000-5010"')
    low, high = int(found[2]), int(found[3] or found[2])
    try:
        ports = Port(low), Port(high)
    except ValueError:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no service", "a port lies between 1 and 65535") from None
    if low > high:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} ends before it begins", f'write "{found[1]}/{high}-{low}"')
    return Service(Protocol(found[1]), *ports)


def multicast(value: object) -> tuple[MulticastName, ...]:
    """Return the named protocols: true is all of them, false none."""
    if isinstance(value, bool):
        return tuple(MulticastName) if value else ()
    if not isinstance(value, list):
        words = ", ".join(f'"{each}"' for each in MulticastName)
        raise wrong_type("a boolean or an array of names", value, f"true for all, or some of [{words}]")
    return tuple(dict.fromkeys(choice(each, MulticastName) for each in value))


def host_address(value: object) -> Address:
    """Return the address of one machine."""
    text = string(value, "an address")
    try:
        return _usable(ip_address(text))
    except ValueError as error:
        if isinstance(error, Mistake):
            raise
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no address", 'one machine\'s, such as "192.0.2.53"') from None


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


def device(value: object) -> InterfaceName:
    """Return the name of one interface."""
    text = interface_pattern(value)
    if text.endswith("*"):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} names more than one interface", "write each by its own name")
    return InterfaceName(text)


def cgroup(value: object) -> str:
    """Return the path of a control group, from the root of cgroup v2 and without a leading slash."""
    text = string(value, "a control group").strip("/")
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+(/[A-Za-z0-9:_.@\\-]+)*", text) or any(
        each in (".", "..") for each in text.split("/")
    ):
        remedy = 'its path as `systemd-cgls` shows it: "system.slice/chrony.service"'
        raise Mistake(Code.BAD_VALUE, f"{shown(value)} is no control group", remedy)
    return text


def slice_unit(value: object) -> str:
    """Return the name of a systemd slice (systemd.slice(5))."""
    text = string(value, "a slice")
    if not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*\.slice", text) or len(text) > 128:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no slice", 'a name such as "failshut-outside.slice"')
    return text

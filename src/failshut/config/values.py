"""Reads one value, of a policy or of a tunnel's config: the typed value, or a `Mistake` that says what to write instead.

Every function here takes what TOML or a config line gave (any type), returns the typed value and raises only `Mistake`.
Addresses and servers have `addresses`.
"""

from __future__ import annotations

import re

from failshut.config.mistake import Mistake, choice, shown, string, wrong_type
from failshut.model.finding import Code
from failshut.model.policy import PORTAL_SLICE, MulticastName, Service, slice_path
from failshut.model.units import InterfaceName, Mark, Port, Protocol

# The names wg-quick(8) accepts; they also pass unquoted through unit names, file names and nft strings.
_TUNNEL_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_PATTERN = re.compile(r"[a-zA-Z0-9_=+.@-]{1,15}\*?")
# Not devices of their own: the loopback, and the two pseudo-devices of /proc/sys/net/ipv4/conf.
_NO_TUNNEL = frozenset({"lo", "all", "default", ".", ".."})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# The lock's own allowances carry these names in rule comments and in `status`.
_RESERVED_NAMES = frozenset({"lan", "dhcp", "ndp", "tunnel", "handshake"})


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


def device(value: object) -> InterfaceName:
    """Return the name of one interface."""
    text = interface_pattern(value)
    if text.endswith("*"):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} names more than one interface", "write each by its own name")
    return InterfaceName(text)


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


def cgroup(value: object) -> str:
    """Return the path of a control group, from the root of cgroup v2 and without a leading slash."""
    text = string(value, "a control group").strip("/")
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+(/[A-Za-z0-9:_.@\\-]+)*", text) or any(
        each in (".", "..") for each in text.split("/")
    ):
        remedy = 'its path as `systemd-cgls` shows it: "system.slice/chrony.service"'
        raise Mistake(Code.BAD_VALUE, f"{shown(value)} is no control group", remedy)
    return text


# systemd's own (systemd.special(7)), and what has a sign-in's in it.
_SHARED_SLICES = {"system.slice", "user.slice", "machine.slice", "failshut.slice"}


def slice_unit(value: object) -> str:
    """Return the name of a systemd slice (systemd.slice(5))."""
    text = string(value, "a slice")
    if not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*\.slice", text) or len(text) > 128:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no slice", 'a name such as "failshut-outside.slice"')
    if text in _SHARED_SLICES or slice_path(text).startswith(slice_path(PORTAL_SLICE)):
        message = f"{shown(text)} has more in it than the programs that you start outside"
        raise Mistake(Code.TOO_WIDE, message, 'a slice of its own, such as "failshut-outside.slice"')
    return text

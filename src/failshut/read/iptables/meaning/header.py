"""What every rule of iptables can say by itself: `-p -s -d -i -o -f`."""

from __future__ import annotations

from failshut.model.finding import Code
from failshut.model.ruleset import Match, Meta, Op, Payload, masked
from failshut.model.units import PROTOCOL_NAMES
from failshut.read.iptables.meaning.ways import ALWAYS, NEVER, Seen, UnsureError, Ways, WrongError, compared, in_network, network
from failshut.read.iptables.names import protocol_number
from failshut.read.iptables.tree import Option

_OFFSET = 0x1FFF
# One object for all rules: a file may have 100,000 of them.
_ADDRESSES = {
    (ip, name): Payload(ip, field) for ip in ("ip", "ip6") for name, field in (("source", "saddr"), ("destination", "daddr"))
}


def read(given: Option, seen: Seen) -> Ways:
    """Return an option's ways. `-s a,b` makes two rules, as iptables does. Raises WrongError."""
    match given.name:
        case "source" | "destination":
            return _address(given, seen)
        case "in-interface":
            return _interface(given, "iifname")
        case "out-interface":
            return _interface(given, "oifname")
        case "protocol":
            return _protocol(given)
        case _:
            return _fragment(given, seen)


def protocol(header: tuple[Option, ...]) -> int | None:
    """Return the one protocol that a rule demands, or None."""
    given = next((each for each in header if each.name == "protocol" and not each.negated), None)
    return (protocol_number(given.values[0]) or None) if given else None


def _address(given: Option, seen: Seen) -> Ways:
    left = _ADDRESSES[seen.ip, given.name]
    texts = given.values[0].split(",")
    if given.negated and len(texts) > 1:
        raise WrongError("several addresses can't be negated at once", given)
    return tuple(
        way for text in texts for way in in_network(left, network(text, seen.version, given), seen.version, negated=given.negated)
    )


def _interface(given: Option, key: str) -> Ways:
    name = given.values[0]
    if len(name.encode()) > 15:
        raise WrongError("an interface's name has 15 bytes at most", given)
    if name == "+":
        return NEVER if given.negated else ALWAYS
    if "\\" in name:
        raise UnsureError(f"{name!r}: a backslash in an interface's name can't be told from nft's own", given)
    if name.endswith("+"):
        name = name[:-1] + "*"
    elif name.endswith("*"):
        name = name[:-1] + "\\*"
    return compared(Meta(key), name, negated=given.negated)


def _protocol(given: Option) -> Ways:
    number = protocol_number(given.values[0])
    if number is None:
        raise WrongError(f"{given.values[0]!r} is no protocol", given, help="write its number")
    if not number:
        if given.negated:
            raise WrongError("no packet is of no protocol: iptables refuses `! -p all`", given)
        return ALWAYS
    return compared(Meta("l4proto"), PROTOCOL_NAMES.get(number, number), negated=given.negated)


def _fragment(given: Option, seen: Seen) -> Ways:
    if seen.version == 6:
        raise WrongError("`-f` is IPv4's", given, Code.RULES_OTHER_FAMILY, "IPv6 has `-m frag`")
    left = masked(Payload("ip", "frag-off"), _OFFSET)
    return ((Match(left, 0, Op.EQ if given.negated else Op.NE),),)

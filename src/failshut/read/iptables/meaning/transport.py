"""Matches on the transport header. None of them holds for a later fragment, whose header is in the first one."""

from __future__ import annotations

from failshut.model.ruleset import Concat, HeaderOption, Left, Payload, Range, Tuple
from failshut.model.symbols import word_of
from failshut.read.iptables.meaning.ways import (
    NEVER,
    Seen,
    Ways,
    WrongError,
    any_of,
    bits,
    both,
    compared,
    option,
    ports,
    span,
    unsure,
)
from failshut.read.iptables.names import ICMP, ICMPV6, IcmpNames, number
from failshut.read.iptables.tree import Option, Part

_ANY_PORT = Range(0, 65535)
_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}
_SYN = (_FLAGS["SYN"] | _FLAGS["RST"] | _FLAGS["ACK"] | _FLAGS["FIN"], _FLAGS["SYN"])
_OPTIONS = {2: "maxseg", 3: "window", 4: "sack-perm", 5: "sack", 8: "timestamp"}
_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_PORTS = {(name, port): Payload(name, port) for name in _WITH_PORTS.values() for port in ("sport", "dport")}


def tcp(part: Part, seen: Seen) -> Ways:
    """`-m tcp`: ports, flags, and whether an option is there."""
    return _header("tcp", part, seen, 6)


def udp(part: Part, seen: Seen) -> Ways:
    """`-m udp`: ports."""
    return _header("udp", part, seen, 17)


def sctp(part: Part, seen: Seen) -> Ways:
    """`-m sctp`: ports; the chunks within are not known."""
    return _header("sctp", part, seen, 132)


def dccp(part: Part, seen: Seen) -> Ways:
    """`-m dccp`: ports; types and options are not known."""
    return _header("dccp", part, seen, 33)


def multiport(part: Part, seen: Seen) -> Ways:
    """`-m multiport`: `--ports` holds when either port is in the list."""
    name = _WITH_PORTS.get(seen.protocol or 0)
    if not part.options:
        raise WrongError("multiport needs --sports, --dports or --ports", _whole(part))
    (given,) = part.options[:1]
    if not name:
        raise WrongError("multiport needs `-p` with a protocol that has ports", given)
    listed = any_of(ports(text, given) for text in given.values[0].split(","))
    source, target = _PORTS[name, "sport"], _PORTS[name, "dport"]
    if given.name != "ports":
        return compared(source if given.name == "sports" else target, listed, negated=given.negated)
    if given.negated:
        return both(compared(source, listed, negated=True), compared(target, listed, negated=True))
    return (*compared(source, listed), *both(compared(source, listed, negated=True), compared(target, listed)))


def icmp(part: Part, seen: Seen) -> Ways:
    """`--icmp-type` and `--icmpv6-type`: a type, or a type and a code."""
    given = part.options[0] if part.options else None
    header = "icmp" if seen.version == 4 else "icmpv6"
    if not given or seen.protocol != (1 if seen.version == 4 else 58):
        raise WrongError(f"a type of ICMP needs `-p {header}`", given or _whole(part))
    kind, code = _type(given, ICMP if seen.version == 4 else ICMPV6, seen.version)
    left = Payload(header, "type")
    if kind is None:
        return NEVER if given.negated else compared(left, Range(0, 255))
    word = word_of(kind, f"{header}_type")
    if code is None:
        return compared(left, word, negated=given.negated)
    if given.negated:
        return compared(Concat((left, Payload(header, "code"))), Tuple((word, word_of(code, f"{header}_code"))), negated=True)
    return both(compared(left, word), compared(Payload(header, "code"), word_of(code, f"{header}_code")))


def esp(part: Part, seen: Seen) -> Ways:
    """`--espspi`."""
    return _spi(Payload("esp", "spi"), part, seen)


def ah(part: Part, seen: Seen) -> Ways:
    """`--ahspi`; the length and the reserved field are IPv6's, and are not known."""
    return _spi(Payload("ah", "spi"), part, seen)


def tcpmss(part: Part, seen: Seen) -> Ways:
    """`--mss`: the largest segment that a SYN announces; a packet without it never matches."""
    given = _needed(part, "mss")
    _only(6, seen, given)
    return compared(HeaderOption("tcp", "maxseg", "size"), span(given, 65535), negated=given.negated)


def ecn(part: Part, seen: Seen) -> Ways:
    """`-m ecn`: two flags of TCP, and two bits of the IP header."""
    found: list[Ways] = []
    for given in part.options:
        if given.name == "ecn-ip-ect":
            wanted = number(given.values[0], 3)
            if wanted is None:
                raise WrongError("an ECN codepoint lies between 0 and 3", given)
            found.append(compared(Payload(seen.ip, "ecn"), word_of(wanted, "ecn"), negated=given.negated))
        else:
            _only(6, seen, given)
            flag = 0x80 if given.name == "ecn-tcp-cwr" else 0x40
            found.append(bits(Payload("tcp", "flags"), flag, flag, 0xFF, negated=given.negated))
    return both(*found)


def _header(name: str, part: Part, seen: Seen, protocol: int) -> Ways:
    if seen.protocol != protocol:
        raise WrongError(f"-m {name} needs `-p {name}`", part.options[0] if part.options else _whole(part))
    found = [_field(name, each) for each in part.options]
    # Without options too, it wants a header that is all there.
    return both(*found) if found else compared(Payload(name, "sport"), _ANY_PORT)


def _field(name: str, given: Option) -> Ways:
    match given.name:
        case "sport" | "dport":
            wanted = ports(given.values[0], given)
            if wanted == _ANY_PORT and given.negated:
                # iptables-legacy matches no packet by it, iptables-nft 1.8.9 every one: it leaves the negation out.
                return both(compared(_PORTS[name, given.name], _ANY_PORT), unsure(f"-m {name} {given}"))
            return compared(_PORTS[name, given.name], wanted, negated=given.negated)
        case "tcp-flags":
            return bits(Payload("tcp", "flags"), _flags(given, 1), _flags(given, 0), 0xFF, negated=given.negated)
        case "syn":
            return bits(Payload("tcp", "flags"), _SYN[1], _SYN[0], 0xFF, negated=given.negated)
        case "tcp-option":
            kind = number(given.values[0], 255)
            if not kind:
                raise WrongError("an option of TCP has a number from 1 to 255", given)
            there = compared(HeaderOption("tcp", _OPTIONS.get(kind, str(kind))), "missing" if given.negated else "exists")
            return both(compared(Payload("tcp", "sport"), _ANY_PORT), there)
        case _:
            return both(compared(Payload(name, "sport"), _ANY_PORT), unsure(f"-m {name} {given}"))


def _flags(given: Option, index: int) -> int:
    found = 0
    for word in given.values[index].split(","):
        if word.upper() not in _FLAGS:
            raise WrongError(f"TCP has no flag {word!r}", given, help=f"one of {', '.join(_FLAGS)}")
        found |= _FLAGS[word.upper()]
    return found


def _type(given: Option, names: IcmpNames, version: int) -> tuple[int | None, int | None]:
    text = given.values[0].lower()
    if version == 4 and text == "any":
        return None, None
    kind, slash, code = text.partition("/")
    first, second = number(kind, 255), number(code, 255) if slash else None
    if first is not None and (second is not None or not slash):
        # 255 is how IPv4's match says any type.
        return (None, None) if version == 4 and first == 255 else (first, second)
    # iptables takes the beginning of a name for the whole.
    found = {names[name] for name in names if name.startswith(text)}
    exact = names.get(text)
    if exact:
        return exact
    if len(found) != 1:
        raise WrongError(f"{given.values[0]!r} is no type of ICMP", given)
    return found.pop()


def _spi(left: Left, part: Part, seen: Seen) -> Ways:
    protocol = 50 if part.name == "esp" else 51
    # IPv6 looks for AH among the extension headers, wherever `-p` points.
    if part.name == "ah" and seen.version == 6:
        return unsure(f"-m {part}")
    if seen.protocol != protocol:
        raise WrongError(f"-m {part.name} needs `-p {part.name}`", part.options[0] if part.options else _whole(part))
    found = option(part, f"{part.name}spi")
    if not found:
        return compared(left, Range(0, 0xFFFFFFFF))
    return compared(left, span(found, 0xFFFFFFFF), negated=found.negated)


def _only(protocol: int, seen: Seen, given: Option) -> None:
    if seen.protocol != protocol:
        raise WrongError(f"--{given.name} needs `-p {_WITH_PORTS[protocol]}`", given)


def _needed(part: Part, name: str) -> Option:
    found = option(part, name)
    if not found:
        raise WrongError(f"-m {part.name} needs --{name}", _whole(part))
    return found


def _whole(part: Part) -> Option:
    return Option(part.name, (), negated=False, at=part.at)

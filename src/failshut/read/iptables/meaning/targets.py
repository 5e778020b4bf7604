"""Targets: what a rule does with a packet that all its matches let through."""

from __future__ import annotations

from failshut.model.ruleset import (
    Assign,
    Binary,
    BitOp,
    Ct,
    HeaderOption,
    Log,
    Meta,
    Notrack,
    Opaque,
    Payload,
    Queue,
    Reject,
    Rt,
    Synproxy,
    Unknown,
    Verdict,
)
from failshut.model.symbols import word_of
from failshut.read.iptables.meaning.fields import tos_field
from failshut.read.iptables.meaning.ways import ALWAYS, Seen, Ways, WrongError, named, option, value, value_and_mask
from failshut.read.iptables.names import DSCP_CLASSES, LOG_LEVEL_NAMES, LOG_LEVELS, TOS_NAMES, number
from failshut.read.iptables.tree import Option, Part

_REJECTS = {
    4: {
        "icmp-net-unreachable": "net-unreachable",
        "net-unreach": "net-unreachable",
        "icmp-host-unreachable": "host-unreachable",
        "host-unreach": "host-unreachable",
        "icmp-proto-unreachable": "prot-unreachable",
        "proto-unreach": "prot-unreachable",
        "icmp-port-unreachable": "port-unreachable",
        "port-unreach": "port-unreachable",
        "icmp-net-prohibited": "net-prohibited",
        "net-prohib": "net-prohibited",
        "icmp-host-prohibited": "host-prohibited",
        "host-prohib": "host-prohibited",
        "icmp-admin-prohibited": "admin-prohibited",
        "admin-prohib": "admin-prohibited",
    },
    6: {
        "icmp6-no-route": "no-route",
        "no-route": "no-route",
        "icmp6-adm-prohibited": "admin-prohibited",
        "adm-prohibited": "admin-prohibited",
        "icmp6-addr-unreachable": "addr-unreachable",
        "addr-unreach": "addr-unreachable",
        "icmp6-port-unreachable": "port-unreachable",
        "port-unreach": "port-unreachable",
        "icmp6-policy-fail": "policy-fail",
        "policy-fail": "policy-fail",
        "icmp6-reject-route": "reject-route",
        "reject-route": "reject-route",
    },
}
_LOG_FLAGS = {
    "log-tcp-sequence": "tcp sequence",
    "log-tcp-options": "tcp options",
    "log-ip-options": "ip options",
    "log-uid": "skuid",
    "log-macdecode": "ether",
}
_DEFAULT_LEVEL = 4


def reject(part: Part, seen: Seen) -> Ways:
    """`-j REJECT`: dropped in every case, and the sender is told."""
    given = option(part, "reject-with")
    kind = "icmp" if seen.version == 4 else "icmpv6"
    text = given.values[0] if given else f"{kind.replace('v6', '6')}-port-unreachable"
    if text in ("tcp-reset", "tcp-rst"):
        if seen.protocol != 6:
            raise WrongError("a TCP reset needs `-p tcp`", given or _whole(part))
        return ((Reject("tcp reset"),),)
    code = _REJECTS[seen.version].get(named(text, _REJECTS[seen.version]))
    if not code:
        known = ", ".join(each for each in _REJECTS[seen.version] if each.startswith("icmp"))
        raise WrongError(
            f"{text!r} is no answer that IPv{seen.version} has", given or _whole(part), help=f"one of {known}, tcp-reset"
        )
    # What nft does when nothing is said is said by nothing.
    return ((Reject() if code == "port-unreachable" else Reject(kind, code),),)


def log(part: Part, seen: Seen) -> Ways:
    """`-j LOG`."""
    del seen
    prefix, given = option(part, "log-prefix"), option(part, "log-level")
    level = _DEFAULT_LEVEL
    if given:
        found = number(given.values[0], 7)
        found = LOG_LEVEL_NAMES.get(given.values[0].lower()) if found is None else found
        if found is None:
            raise WrongError(f"{given.values[0]!r} is no level of the log", given, help=f"one of {', '.join(LOG_LEVELS)}")
        level = found
    flags = tuple(_LOG_FLAGS[each.name] for each in part.options if each.name in _LOG_FLAGS)
    # nft lists its own default, which is the same, as nothing.
    return ((Log(prefix.values[0] if prefix else "", "" if level == _DEFAULT_LEVEL else LOG_LEVELS[level], flags=flags),),)


def nflog(part: Part, seen: Seen) -> Ways:
    """`-j NFLOG`, and its forerunner ULOG."""
    del seen
    prefix = option(part, "nflog-prefix") or option(part, "ulog-prefix")
    group, size, threshold = (option(part, name) for name in ("nflog-group", "nflog-size", "nflog-threshold"))
    listener = value(group, 65535) if group else 0
    return (
        (
            Log(
                prefix.values[0] if prefix else "",
                group=listener,
                snaplen=value(size, 0xFFFFFFFF) if size else None,
                queue_threshold=value(threshold, 65535) if threshold else None,
            ),
        ),
    )


def queue(part: Part, seen: Seen) -> Ways:
    """`-j NFQUEUE`, and `-j QUEUE`, which is its number 0."""
    del seen
    given, balance = option(part, "queue-num"), option(part, "queue-balance")
    flags = {"queue-bypass": "bypass", "queue-cpu-fanout": "fanout"}
    chosen = given.values[0] if given else balance.values[0].replace(":", "-") if balance else "0"
    return ((Queue(chosen, frozenset(flags[each.name] for each in part.options if each.name in flags)),),)


def connection(part: Part, seen: Seen) -> Ways:
    """`-j CT` and `-j NOTRACK`: leave the packet out of tracking, or choose how it is tracked."""
    del seen
    if part.name == "NOTRACK" or option(part, "notrack"):
        return ((Notrack(),),)
    zone = next((each for each in part.options if each.name.startswith("zone")), None)
    if not zone:
        return ALWAYS
    chosen = number(zone.values[0], 65535)
    wanted = Opaque(f"-j {part}") if chosen is None else chosen
    return ((Assign(Ct("zone", zone.name.removeprefix("zone").removeprefix("-").replace("orig", "original")), wanted),),)


def segment(part: Part, seen: Seen) -> Ways:
    """`-j TCPMSS`."""
    del seen
    given = option(part, "set-mss")
    return ((Assign(HeaderOption("tcp", "maxseg", "size"), value(given, 65535) if given else Rt("mtu")),),)


def hops(part: Part, seen: Seen) -> Ways:
    """`-j TTL` and `-j HL`."""
    field = Payload("ip", "ttl") if seen.version == 4 else Payload("ip6", "hoplimit")
    given = part.options[0] if part.options else _missing(part)
    found = value(given, 255)
    return ((Assign(field, found if given.name.endswith("-set") else Opaque(f"-j {part}")),),)


def dscp(part: Part, seen: Seen) -> Ways:
    """`-j DSCP`."""
    given = part.options[0] if part.options else _missing(part)
    text = given.values[0]
    wanted = DSCP_CLASSES.get(text.lower()) if given.name == "set-dscp-class" else number(text, 63)
    if wanted is None:
        raise WrongError(f"{text!r} is no DSCP", given)
    return ((Assign(Payload(seen.ip, "dscp"), word_of(wanted, "dscp")),),)


def tos(part: Part, seen: Seen) -> Ways:
    """`-j TOS`."""
    field = tos_field(seen)
    given = part.options[0] if part.options else _missing(part)
    named = TOS_NAMES.get(given.values[0].lower())
    wanted, mask = (named, 0x3F) if named is not None else value_and_mask(given, 0xFF)
    keep, bits = {
        "set-tos": (0xFF ^ (mask | wanted), wanted),
        "and-tos": (wanted, 0),
        "or-tos": (0xFF ^ wanted, wanted),
        "xor-tos": (0xFF, wanted),
    }[given.name]
    if not keep:
        return ((Assign(field, bits),),)
    return ((Assign(field, Binary(BitOp.XOR, Binary(BitOp.AND, field, keep), bits)),),)


def classify(part: Part, seen: Seen) -> Ways:
    """`-j CLASSIFY`: the packet's priority, by which queueing sorts: two hexadecimal numbers of 16 bits."""
    del seen
    given = part.options[0] if part.options else _missing(part)
    halves = [number(f"0x{each.removeprefix('0x')}", 0xFFFF) for each in given.values[0].split(":")]
    match halves:
        case [int(major), int(minor)]:
            return ((Assign(Meta("priority"), major << 16 | minor),),)
        case _:
            raise WrongError(f"{given.values[0]!r} is no class", given, help="as in 1:20")


def congestion(part: Part, seen: Seen) -> Ways:
    """`-j ECN --ecn-tcp-remove`."""
    del part, seen
    return ((Assign(Payload("tcp", "flags"), Binary(BitOp.AND, Payload("tcp", "flags"), 0x3F)),),)


def translate_prefix(part: Part, seen: Seen) -> Ways:
    """`-j SNPT` and `-j DNPT`: another prefix for one address, with no memory of it."""
    del seen
    return ((Assign(Payload("ip6", "saddr" if part.name == "SNPT" else "daddr"), Opaque(f"-j {part}")),),)


def set_(part: Part, seen: Seen) -> Ways:
    """`-j SET`: add to an ipset or take from it; a map set may also give the packet a mark and a priority."""
    del seen
    targets = {"map-mark": "mark", "map-prio": "priority"}
    assigned = tuple(Assign(Meta(targets[each.name]), Opaque(f"-j {part}")) for each in part.options if each.name in targets)
    return (assigned,)


def synproxy(part: Part, seen: Seen) -> Ways:
    """`-j SYNPROXY`."""
    del seen
    return ((Synproxy(" ".join(map(str, part.options))),),)


def trace(part: Part, seen: Seen) -> Ways:
    """`-j TRACE`."""
    del part, seen
    return ((Assign(Meta("nftrace"), 1),),)


def nothing(part: Part, seen: Seen) -> Ways:
    """Targets that leave the packet, its marks and its way as they are."""
    del part, seen
    return ALWAYS


def not_known(part: Part, seen: Seen) -> Ways:
    """Return that the target may do anything."""
    del seen
    return ((Unknown(f"-j {part}"),),)


VERDICTS = {"ACCEPT": Verdict.ACCEPT, "DROP": Verdict.DROP, "RETURN": Verdict.RETURN}


def _whole(part: Part) -> Option:
    return Option(part.name, (), negated=False, at=part.at)


def _missing(part: Part) -> Option:
    raise WrongError(f"-j {part.name} needs an option", _whole(part))

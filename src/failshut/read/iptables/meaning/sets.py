"""`-m set`: whether a packet is in an ipset, by what `ipset save` printed beside the rules.

Source: xt_set.c, and ip_set_core.c: a packet that lacks what a set asks for (ip_set_getport.c) is not in it, and so negated it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from failshut.model.finding import Code
from failshut.model.ruleset import Concat, Left, Match, Meta, Op, Payload, Scalar, Tuple, UnknownMatch
from failshut.model.symbols import word_of
from failshut.model.units import PROTOCOL_NAMES
from failshut.read.iptables.ipset import Entry, IpSet, Service, matching
from failshut.read.iptables.meaning.ways import ALWAYS, NEVER, Seen, UnsureError, Ways, WrongError, any_of, option
from failshut.read.iptables.tree import Option, Part

# What has ports of its own, and ICMP, whose type and code stand for them.
_WITH_PORTS = frozenset({6, 17, 132, 136})
_ICMP = {1: "icmp", 58: "icmpv6"}
# What every packet has: without it a packet is in no set, and negated it matches.
_ALWAYS_THERE = (("ip",), ("net",), ("mark",))
# What a rule may ask of a set without that changing what matches.
_PLAIN = frozenset({"match-set", "update-counters", "update-subcounters"})


def set_(part: Part, seen: Seen) -> Ways:
    """`--match-set NAME src,dst`."""
    given = option(part, "match-set")
    if not given:
        raise WrongError("-m set needs --match-set", Option(part.name, (), negated=False, at=part.at))
    found = _known(given, seen)
    if any(each.name not in _PLAIN for each in part.options):
        raise UnsureError("what a set has counted is not known", given)
    ends = given.values[1].split(",")
    if any(each not in ("src", "dst") for each in ends):
        raise WrongError(f"a set is asked for src and dst, not {given.values[1]!r}", given)
    if len(ends) < len(found.dimensions):
        # What has fewer directions than the set has dimensions is in none.
        return ALWAYS if given.negated else NEVER
    if given.negated and found.dimensions not in _ALWAYS_THERE:
        raise UnsureError(f"what is not in a set of {','.join(found.dimensions)} is not followed", given)
    asked = list(_asked(found, ends, seen, given))
    return _negated(asked, found) if given.negated else _within(asked, found)


def _known(given: Option, seen: Seen) -> IpSet:
    """Return the set, of which everything is known that a packet may meet."""
    name, sets = given.values[0], seen.sets
    if not sets.listed:
        raise UnsureError(f"what is in the ipset {name} is not in the rules: give what `ipset save` prints beside them", given)
    found = sets.known.get(name)
    if found is None:
        message = f"there is no ipset {name} among those that were given"
        raise WrongError(message, given, Code.RULES_NO_TARGET, "iptables-restore refuses the table")
    if name in sets.changed:
        raise UnsureError(f"packets put something into the ipset {name}, or take it out", given)
    if found.dimensions == ("set",):
        found = _joined(found, [sets.known[str(each.parts[0])] for each in found.entries if each.parts[0] in sets.known], given)
    if found.unclear:
        raise UnsureError(found.unclear, given)
    if found.version not in (0, seen.version):
        message = f"the ipset {name} has addresses of IPv{found.version}, among rules for IPv{seen.version}"
        raise WrongError(message, given, Code.RULES_OTHER_FAMILY, "iptables-restore refuses the table")
    return found


def _joined(whole: IpSet, members: list[IpSet], given: Option) -> IpSet:
    """Return a list of sets as one set: what any of them holds."""
    if any(len(each.dimensions) != 1 or each.dimensions == ("set",) for each in members):
        raise UnsureError(f"the ipset {whole.name} is a list of sets that are not addresses alone", given)
    versions = {each.version for each in members}
    if len(versions) > 1 or any(each.unclear or each.netmask for each in members):
        raise UnsureError(f"the sets in the ipset {whole.name} are not all understood", given)
    parts = [Entry((said,)) for each in members for said in matching(each.entries)]
    timed = whole.timed or any(each.timed for each in members)
    return IpSet(
        whole.name, members[0].dimensions if members else ("ip",), versions.pop() if versions else 0, timed=timed, entries=parts
    )


def _asked(found: IpSet, ends: list[str], seen: Seen, given: Option) -> Iterator[tuple[Left, tuple[Scalar | Tuple, ...]]]:
    """Yield what is compared with which elements: without ports one thing, with them one for each kind of protocol."""
    if len(found.dimensions) == 1 and found.dimensions != ("port",):
        left = _left(found.dimensions[0], ends[0], seen)
        elements = matching(found.entries) if found.version else tuple(each.parts[0] for each in found.entries)
        if elements:
            yield left, elements  # type: ignore[misc] # of one dimension, and no service
        return
    if any(each.nomatch for each in found.entries):
        raise UnsureError("which element of several dimensions spares another is not followed", given)
    rows: dict[Left, list[Tuple]] = {}
    for each in found.entries:
        for lefts, values in _rows(each, found, ends, seen):
            rows.setdefault(Concat(lefts), []).append(Tuple(values))
    yield from ((left, tuple(values)) for left, values in rows.items())


def _rows(entry: Entry, found: IpSet, ends: list[str], seen: Seen) -> Iterator[tuple[tuple[Left, ...], tuple[Scalar, ...]]]:
    """Yield an element as fields and their constants; of a bitmap of ports one of TCP and of UDP, of what no packet has none."""
    kinds = list(zip(found.dimensions, ends, entry.parts, strict=False))
    choices = [_services(part, end) if kind == "port" else [((_left(kind, end, seen), part),)] for kind, end, part in kinds]
    for choice in product(*choices):
        pairs = [pair for each in choice for pair in each]
        yield tuple(left for left, _ in pairs), tuple(value for _, value in pairs)  # type: ignore[misc] # no service is left


def _services(said: object, end: str) -> list[tuple[tuple[Left, object], ...]]:
    """Return the protocols and ports that stand for an element's; each is fields with their constants."""
    port = Payload("th", "sport" if end == "src" else "dport")
    if not isinstance(said, Service):
        return [((Meta("l4proto"), each), (port, said)) for each in ("tcp", "udp")]
    protocol = PROTOCOL_NAMES.get(said.protocol, said.protocol)
    if said.protocol in _WITH_PORTS:
        return [((Meta("l4proto"), protocol), (port, said.ports))]
    if said.protocol in _ICMP and isinstance(said.ports, int):
        header = _ICMP[said.protocol]
        kind, code = word_of(said.ports >> 8, f"{header}_type"), word_of(said.ports & 0xFF, f"{header}_code")
        return [((Payload(header, "type"), kind), (Payload(header, "code"), code))]
    # What has no ports has port 0.
    return [((Meta("l4proto"), protocol),)] if said.ports == 0 else []


def _left(kind: str, end: str, seen: Seen) -> Left:
    match kind:
        case "iface":
            return Meta("iifname" if end == "src" else "oifname")
        case "mark":
            return Meta("mark")
        case _:
            return Payload(seen.ip, "saddr" if end == "src" else "daddr")


def _within(asked: list[tuple[Left, tuple[Scalar | Tuple, ...]]], found: IpSet) -> Ways:
    last = (UnknownMatch(f"timeout of the ipset {found.name}"),) if found.timed else ()
    return tuple((Match(left, any_of(said)), *last) for left, said in asked)


def _negated(asked: list[tuple[Left, tuple[Scalar | Tuple, ...]]], found: IpSet) -> Ways:
    """Return the ways that are left: what is in no element, and, where elements end, what was in one."""
    if not asked:
        return ALWAYS
    ((left, said),) = asked
    without: Ways = ((Match(left, any_of(said), Op.NE),),)
    return (*without, *_within(asked, found)) if found.timed else without

"""What a translation makes of an address or a port, as far as its rule says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from failshut.audit.netfilter.route import Stop, reachable
from failshut.audit.netfilter.words import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, NotUnderstoodError, interval, number
from failshut.model.ruleset import AnySet, Match, Meta, Nat, NatKind, Op, Payload, Range, Rule

# What `redirect` sends local packets to (nf_nat_redirect.c). What comes in goes to the device's own address, which is as local.
LOOPBACK = {"ip": 0x7F000001, "ip6": 1}
_VERSION = {"ip": 4, "ip6": 6}
_NFPROTO = {"ip": 2, "ip6": 10}
_WITH_HEADERS = {"tcp": TCP, "udp": UDP, "udplite": UDPLITE, "sctp": SCTP, "dccp": DCCP, "icmp": ICMP, "icmpv6": ICMPV6}
_PROTOCOL = (Meta("l4proto"), Payload("ip", "protocol"))
# Of whichever connection they tell, they are translated as it is (nf_nat_icmp_reply_translation), as long as they are related.
OF_ERRORS = (ICMP, ICMPV6)


@dataclass(frozen=True, slots=True)
class Written:
    """One field that a translation writes: any value between `low` and `high`. `told` is False when the rule does not say which."""

    field: str
    width: int
    low: int
    high: int
    told: bool = True


@dataclass(frozen=True, slots=True)
class Translation:
    """What one rule may have made of a connection's packets: all of `fields` at once, of a connection of these `protocols`.

    Without protocols it may be one of any.
    """

    fields: tuple[Written, ...]
    protocols: tuple[int, ...] = ()


def translated(stops: Iterable[Stop], family: int, *, incoming: bool) -> tuple[Translation, ...]:
    """Return what each rule of these chains may have made of a connection's packets when it began.

    With `incoming`, of where they go; else of where they come from.
    """
    kinds = (NatKind.DNAT, NatKind.REDIRECT) if incoming else (NatKind.SNAT, NatKind.MASQUERADE)
    name, other = ("ip", "ip6 ") if family == 4 else ("ip6", "ip ")
    rules = (rule for stop in stops if stop.is_nat for rule in reachable(stop.table, stop.chain))
    every = ((each, rule) for rule in rules for each in rule.statements if isinstance(each, Nat))
    ours = ((each, rule) for each, rule in every if each.kind in kinds and _NFPROTO[name] in concerns(each))
    made = ((tuple(one for one in written(each) if not one.field.startswith(other)), rule) for each, rule in ours)
    return tuple(dict.fromkeys(Translation(fields, _protocols(rule)) for fields, rule in made))


def _protocols(rule: Rule) -> tuple[int, ...]:
    """Return the protocols that a rule asks for; none where it asks for no one."""
    for each in rule.statements:
        if isinstance(each, Match) and isinstance(each.left, Payload) and each.left.protocol in _WITH_HEADERS:
            return (_WITH_HEADERS[each.left.protocol],)
        if isinstance(each, Match) and each.op is Op.EQ and each.left in _PROTOCOL:
            said = each.right.elements if isinstance(each.right, AnySet) else (each.right,)
            with suppress(NotUnderstoodError):
                return tuple(number(one, "inet_proto") for one in said)  # type: ignore[arg-type] # what is no protocol is refused there
    return ()


def concerns(nat: Nat) -> tuple[int, ...]:
    """Return the `nfproto` of the packets that a translation is for: an address is of one IP version."""
    version = getattr(nat.address.low if isinstance(nat.address, Range) else nat.address, "version", None)
    families = [each for each in ("ip", "ip6") if version in (None, _VERSION[each]) and nat.family in ("", each)]
    return tuple(_NFPROTO[each] for each in families)


def written(nat: Nat) -> Iterator[Written]:
    """Yield the fields that a translation writes."""
    end = "d" if nat.kind in (NatKind.DNAT, NatKind.REDIRECT) else "s"
    for family, width in (("ip", 32), ("ip6", 128)):
        name = f"{family} {end}addr"
        if nat.kind is NatKind.REDIRECT:
            yield Written(name, width, LOOPBACK[family], LOOPBACK[family])
        elif nat.kind is NatKind.MASQUERADE:
            yield Written(name, width, 0, (1 << width) - 1)
        elif nat.address is not None and _NFPROTO[family] in concerns(nat):
            yield _address(name, width, nat.address)
    if nat.port is not None or end == "s":
        yield _port(f"{end}port", None if end == "s" else nat.port)


def _address(name: str, width: int, said: object) -> Written:
    low = said.low if isinstance(said, Range) else said
    if isinstance(low, IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        return Written(name, width, *interval(said, "address"))  # type: ignore[arg-type] # an address, a prefix or a range of them
    return Written(name, width, 0, (1 << width) - 1, told=False)


def _port(name: str, said: object) -> Written:
    try:
        return Written(name, 16, *interval(said, "inet_service"))  # type: ignore[arg-type] # what is no port is refused there
    except NotUnderstoodError:
        return Written(name, 16, 0, 0xFFFF, told=said is None)

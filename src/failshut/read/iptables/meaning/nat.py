"""Targets that translate addresses or hand packets to somebody: DNAT, SNAT, MASQUERADE, REDIRECT, NETMAP, TPROXY, TEE."""

from __future__ import annotations

from failshut.model.ruleset import Assign, Duplicate, Meta, Nat, NatKind, Range, Statement, Tproxy, UnknownMatch, Verdict
from failshut.model.units import Address
from failshut.read.iptables.meaning.marks import exclusive_or
from failshut.read.iptables.meaning.ways import (
    ALL_BITS,
    Seen,
    Ways,
    WrongError,
    address,
    network,
    option,
    ports,
    prefix,
    value_and_mask,
)
from failshut.read.iptables.tree import Option, Part

_FLAGS = {"random": "random", "random-fully": "fully-random", "persistent": "persistent"}
_FULL_PORTS = 65535


def dnat(part: Part, seen: Seen) -> Ways:
    """`-j DNAT --to-destination`."""
    return _to(part, seen, NatKind.DNAT, "to-destination")


def snat(part: Part, seen: Seen) -> Ways:
    """`-j SNAT --to-source`."""
    return _to(part, seen, NatKind.SNAT, "to-source")


def masquerade(part: Part, seen: Seen) -> Ways:
    """`-j MASQUERADE`."""
    del seen
    return _own(part, NatKind.MASQUERADE)


def redirect(part: Part, seen: Seen) -> Ways:
    """`-j REDIRECT`."""
    del seen
    return _own(part, NatKind.REDIRECT)


def netmap(part: Part, seen: Seen) -> Ways:
    """`-j NETMAP --to`: the bits of the network are replaced, the host's stay. Which address, the hook decides."""
    given = _needed(part, "to")
    base, mask = network(given.values[0], seen.version, given)
    hosts = mask ^ ((1 << (32 if seen.version == 4 else 128)) - 1)
    if hosts & (hosts + 1):
        raise WrongError(f"{given.values[0]!r} is no prefix", given)
    kind = NatKind.DNAT if seen.destination else NatKind.SNAT
    return ((Nat(kind, prefix(base & mask, hosts.bit_length(), seen.version), flags=frozenset({"netmap"})),),)


def tproxy(part: Part, seen: Seen) -> Ways:
    """`-j TPROXY`: to the local socket that listens there, with a mark; a packet for which none listens is dropped."""
    given = _needed(part, "on-port")
    port = ports(given.values[0], given)
    on, marked = option(part, "on-ip"), option(part, "tproxy-mark")
    at = address(on.values[0], seen.version, on) if on else None
    statements: list[Statement] = [UnknownMatch("a local socket takes the packet (-j TPROXY)")]
    wanted, mask = value_and_mask(marked) if marked else (0, 0)
    if wanted or mask:
        statements.append(Assign(Meta("mark"), exclusive_or(Meta("mark"), ALL_BITS ^ mask, wanted)))
    statements += [Tproxy(address=at if at and int(at) else None, port=port or None), Verdict.ACCEPT]
    return (tuple(statements), (Verdict.DROP,))


def tee(part: Part, seen: Seen) -> Ways:
    """`-j TEE`: a copy goes to another machine."""
    given = _needed(part, "gateway")
    device = option(part, "oif")
    return ((Duplicate(address(given.values[0], seen.version, given), device.values[0] if device else None),),)


def _to(part: Part, seen: Seen, kind: NatKind, name: str) -> Ways:
    given = _needed(part, name)
    hosts, port = _split(given.values[0], seen, given)
    low, dash, high = hosts.partition("-")
    where: Address | Range | None = None
    if low:
        first = address(low, seen.version, given)
        where = Range(first, address(high, seen.version, given)) if dash and high != low else first
    return ((Nat(kind, where, _ports(port, given), flags=_flags(part)),),)


def _split(text: str, seen: Seen, given: Option) -> tuple[str, str]:
    """Return the addresses and the ports of `address[-address][:port[-port]]`, with IPv6's addresses in brackets."""
    if seen.version == 4:
        hosts, _, port = text.partition(":")
        return hosts, port
    if not text.startswith("["):
        return text, ""
    hosts, bracket, rest = text[1:].partition("]")
    if not bracket or (rest and rest[0] not in ":-"):
        raise WrongError(f"{text!r} is no address with a port", given)
    if rest.startswith("-["):
        last, _, rest = rest[2:].partition("]")
        hosts = f"{hosts}-{last}"
    return hosts, rest.removeprefix(":")


def _own(part: Part, kind: NatKind) -> Ways:
    given = option(part, "to-ports")
    return ((Nat(kind, None, _ports(given.values[0], given) if given else None, flags=_flags(part)),),)


def _ports(text: str, given: Option) -> int | Range | None:
    # `80-90/60`: where in the range to begin, which changes none of its ends.
    text = text.partition("/")[0].replace("-", ":")
    found = ports(text, given) if text else None
    return None if found in (0, Range(0, _FULL_PORTS)) else found


def _flags(part: Part) -> frozenset[str]:
    return frozenset(_FLAGS[each.name] for each in part.options if each.name in _FLAGS)


def _needed(part: Part, name: str) -> Option:
    found = option(part, name)
    if not found:
        raise WrongError(f"-j {part.name} needs --{name}", Option(part.name, (), negated=False, at=part.at))
    return found

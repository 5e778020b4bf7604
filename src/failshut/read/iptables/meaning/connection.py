"""Matches on the packet's connection: conntrack, state, connmark."""

from __future__ import annotations

from failshut.model.ruleset import Ct, Match, Op
from failshut.model.units import PROTOCOL_NAMES
from failshut.read.iptables.meaning.ways import (
    ALL_BITS,
    ALWAYS,
    NEVER,
    Seen,
    Way,
    Ways,
    WrongError,
    any_of,
    bits,
    both,
    compared,
    in_network,
    named,
    network,
    option,
    span,
    unsure,
    value_and_mask,
)
from failshut.read.iptables.names import protocol_number
from failshut.read.iptables.tree import Option, Part

# nft lists them in the order of their bits.
_STATES = ("invalid", "new", "established", "related", "untracked")
# Without a connection there is nothing else to ask of it.
_WITHOUT = frozenset({"invalid", "untracked"})
_TRANSLATED = {"snat": "snat", "dnat": "dnat"}
_STATUS = {"EXPECTED": "expected", "SEEN_REPLY": "seen-reply", "ASSURED": "assured", "CONFIRMED": "confirmed"}


def conntrack(part: Part, seen: Seen) -> Ways:
    """`-m conntrack`: state, status, direction, and the addresses and ports of either direction.

    A packet without a connection fails all of these but `--ctstate`; when that holds for it, the others are not asked
    (xt_conntrack.c, conntrack_mt).
    """
    if not part.options:
        raise WrongError("-m conntrack needs an option", Option(part.name, (), negated=False, at=part.at))
    given = option(part, "ctstate")
    others = both(*(_asked(each, seen) for each in part.options if each.name != "ctstate"))
    if not given:
        return others
    wanted, translated = _wanted(given)
    if given.negated:
        wanted = frozenset(_STATES) - wanted
    without, within = wanted & _WITHOUT, frozenset(wanted - _WITHOUT)
    if others == ALWAYS and not translated:
        return states(wanted)
    return (*states(without), *both(_translated(within, translated, negated=given.negated), others))


def state(part: Part, seen: Seen) -> Ways:
    """`-m state --state`: conntrack's `--ctstate` by its older name."""
    del seen
    given = option(part, "state")
    if not given:
        raise WrongError("-m state needs --state", Option(part.name, (), negated=False, at=part.at))
    wanted, translated = _wanted(given)
    if translated:
        raise WrongError("-m state knows neither SNAT nor DNAT", given, help="-m conntrack --ctstate does")
    return states(frozenset(_STATES) - wanted if given.negated else wanted)


def connmark(part: Part, seen: Seen) -> Ways:
    """`-m connmark`: a packet without a connection never matches, negated or not."""
    del seen
    given = option(part, "mark")
    if not given:
        raise WrongError("-m connmark needs --mark", Option(part.name, (), negated=False, at=part.at))
    wanted, mask = value_and_mask(given)
    return bits(Ct("mark"), wanted, mask, ALL_BITS, negated=given.negated)


def helper(part: Part, seen: Seen) -> Ways:
    """`-m helper`: whether a connection is one that a helper expected of another; such a one is related, then established.

    Whether a helper watches the other is not said by its name (xt_helper.c, nf_conntrack_core.c).
    """
    del seen
    given = option(part, "helper")
    if not given:
        raise WrongError("-m helper needs --helper", Option(part.name, (), negated=False, at=part.at))
    return unsure(f"-m {part}") if given.negated else both(states(frozenset({"established", "related"})), unsure(f"-m {part}"))


def states(wanted: frozenset[str]) -> Ways:
    """Return that the connection is in one of these states."""
    if not wanted:
        return NEVER
    return ((Match(Ct("state"), any_of(each for each in _STATES if each in wanted), Op.IN),),)


def _wanted(given: Option) -> tuple[frozenset[str], frozenset[str]]:
    texts = given.values[0].split(",")
    words = frozenset(named(each, (*_STATES, *_TRANSLATED)) for each in texts)
    if "" in words:
        known = ", ".join((*_STATES, *_TRANSLATED)).upper()
        raise WrongError(f"no connection is in a state {given.values[0]!r}", given, help=f"one of {known}")
    return words - _TRANSLATED.keys(), words & _TRANSLATED.keys()


def _translated(states_: frozenset[str], translated: frozenset[str], *, negated: bool) -> Ways:
    """Return "in one of the states, or translated so"; negated, "in one of the states, and not translated so"."""
    if not translated:
        return states(states_)
    status = any_of(sorted(translated))
    tracked = frozenset(_STATES) - _WITHOUT
    if negated:
        return both(states(states_), ((Match(Ct("status"), status, Op.NOT_IN),),))
    return (*states(states_), *both(states(tracked - states_), ((Match(Ct("status"), status, Op.IN),),)))


def _asked(given: Option, seen: Seen) -> Ways:
    name, text = given.name, given.values[0]
    if name == "ctdir":
        return _direction(given)
    if name == "ctstatus":
        return _status(given)
    if name == "ctproto":
        return _protocol(given)
    if name == "ctexpire":
        return both(states(frozenset(_STATES) - _WITHOUT), unsure(f"-m conntrack {given}"))
    direction = "original" if name.startswith("ctorig") else "reply"
    end = name.removeprefix("ctorig").removeprefix("ctrepl")
    if end.endswith("port"):
        left = Ct("proto-src" if end == "srcport" else "proto-dst", direction)
        return compared(left, span(given, 65535), negated=given.negated)
    left = Ct(f"{seen.ip} {'saddr' if end == 'src' else 'daddr'}", direction)
    ways = in_network(left, network(text, seen.version, given), seen.version, negated=given.negated)
    # A test that all addresses pass still needs a connection.
    return states(frozenset(_STATES) - _WITHOUT) if ways == ALWAYS else ways


def _direction(given: Option) -> Ways:
    words = {"ORIGINAL": "original", "REPLY": "reply"}
    word = words.get(given.values[0].upper())
    if not word:
        raise WrongError(f"a direction is ORIGINAL or REPLY, not {given.values[0]!r}", given)
    return compared(Ct("direction"), word, negated=given.negated)


def _status(given: Option) -> Ways:
    words = [named(each, ("NONE", *_STATUS)) for each in given.values[0].split(",")]
    if "" in words:
        raise WrongError(f"no connection has a status {given.values[0]!r}", given, help=f"one of NONE, {', '.join(_STATUS)}")
    wanted = [_STATUS[each] for each in words if each != "NONE"]
    if not wanted:
        # NONE is no bit at all: no connection has one of none, every one has none of none.
        return states(frozenset(_STATES) - _WITHOUT) if given.negated else NEVER
    way: Way = (Match(Ct("status"), any_of(wanted), Op.NOT_IN if given.negated else Op.IN),)
    return (way,)


def _protocol(given: Option) -> Ways:
    found = protocol_number(given.values[0])
    if found is None or (not found and given.negated):
        raise WrongError(f"{given.values[0]!r} is no protocol of a connection", given)
    return compared(Ct("protocol", "original"), PROTOCOL_NAMES.get(found, found), negated=given.negated)

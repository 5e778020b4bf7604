"""Meanings that nft's two listings share: one model, however it was written."""

from __future__ import annotations

from dataclasses import replace

from failshut.model.ruleset import Family, Limit, Quota, Reject, Ruleset, Table, Update
from failshut.model.symbols import word_of
from failshut.read.constants import BadValueError, number

_UNREACHABLE = "port-unreachable"
# Without a kind, nft takes this one.
_DEFAULT_REJECT = {Family.IP: "icmp", Family.IP6: "icmpv6"}
_CODES = {"icmp": "icmp_code", "icmpv6": "icmpv6_code", "icmpx": "icmpx_code"}
_UNITS = {"bytes": 1, "kbytes": 1 << 10, "mbytes": 1 << 20, "gbytes": 1 << 30}

# Of iptables' own matches and targets, in either listing.
XT_IS_SILENT = "nft does not print what it says; give what iptables-save prints, too"
PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}


def priority_named(name: str, family: Family) -> int | None:
    """Return the number that a priority's name stands for in a family, or None."""
    names = _BRIDGE_PRIORITIES if family is Family.BRIDGE else PRIORITIES
    return names.get(name)


def reject(kind: str, code: str, family: Family) -> Reject:
    """Return a reject; what nft does when nothing is said is said by nothing."""
    if code.isdecimal() and kind in _CODES:
        code = str(word_of(number(code), _CODES[kind]))
    if code == _UNREACHABLE and kind in ("icmpx", _DEFAULT_REJECT.get(family)):
        return Reject()
    return Reject(kind, code)


def limit(rate: int, per: str, *, unit: str, burst: int | None, burst_unit: str, over: bool) -> Limit:
    """Return a limit; the burst that nothing is said of is 5 packets, or no bytes."""
    if unit in ("", "packets"):
        return Limit(rate, per, 5 if burst is None else burst, over)
    return Limit(rate, per, burst or 0, over, unit, burst_unit if burst else "")


def quota(size: int, unit: str, *, over: bool) -> Quota:
    """Return a quota in bytes. Raises `BadValueError` for an unknown unit."""
    if unit not in _UNITS:
        raise BadValueError(f"{unit!r} is no unit of a quota")
    return Quota(size * _UNITS[unit], over)


def with_dynamic_sets(ruleset: Ruleset) -> Ruleset:
    """Return the same rules, with every set that a rule changes marked as dynamic: nft's JSON does not say so of all."""
    return replace(ruleset, tables=tuple(_with_dynamic_sets(each) for each in ruleset.tables))


def _with_dynamic_sets(table: Table) -> Table:
    statements = (each for chain in table.chains for rule in chain.rules for each in rule.statements)
    changed = {each.set for each in statements if isinstance(each, Update)}
    dynamic = {"dynamic"}
    return replace(
        table,
        sets=tuple(replace(each, flags=each.flags | dynamic, elements=()) if each.name in changed else each for each in table.sets),
        maps=tuple(replace(each, flags=each.flags | dynamic, elements=()) if each.name in changed else each for each in table.maps),
    )

"""What a statement does to one packet: a verdict, something written, or nothing. What can't be followed is asked of the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from failshut.audit.concrete.fate import Oracle, Packet, Step
from failshut.audit.concrete.values import Values, compare, may_hold, written
from failshut.audit.netfilter.fields import load_of
from failshut.audit.netfilter.nat import concerns
from failshut.audit.netfilter.nat import written as to_write
from failshut.audit.netfilter.route import ROUTED_ANEW, Stop, changes_the_route, map_elements
from failshut.audit.netfilter.words import NFPROTO, NotUnderstoodError
from failshut.model.ruleset import (
    Assign,
    Duplicate,
    Family,
    Forward,
    Jump,
    Match,
    Nat,
    Neutral,
    Notrack,
    ObjectRef,
    Queue,
    Reject,
    Rule,
    Statement,
    Synproxy,
    Table,
    Threshold,
    Unknown,
    UnknownMatch,
    Update,
    Verdict,
    VerdictMap,
)


@dataclass(slots=True)
class Run:
    """One packet on its way: its fields now, and which place of which chain is being looked at."""

    packet: Packet
    oracle: Oracle
    now: dict[str, int | str]
    steps: list[Step] = field(default_factory=list)
    copied: bool = False
    early: bool = False
    keeps_protocol: bool = True
    calls: list[Rule] = field(default_factory=list)

    def values(self, table: Table) -> Values:
        """Return what the rules of a table can ask of the packet now."""
        return Values(self.now, table, self.early)


def family_of(run: Run) -> int:
    """Return the IP version of a packet; 0 for a frame of neither."""
    return next((family for family, number in NFPROTO.items() if family and number == run.now["nfproto"]), 0)


def carried_out(run: Run, stop: Stop, statement: Statement, place: str) -> Verdict | Jump | None:
    """Return a verdict, or None to go on with the rule; CONTINUE ends it. `place` is what the oracle knows the statement by."""
    try:
        return _carried_out(run, stop, statement, place)
    except NotUnderstoodError:
        return _not_understood(run, stop, statement, place)


def _carried_out(run: Run, stop: Stop, statement: Statement, place: str) -> Verdict | Jump | None:  # noqa: PLR0911, PLR0912, C901 - one line a kind
    values = run.values(stop.table)
    match statement:
        case Match():
            return None if compare(values, statement) else Verdict.CONTINUE
        case UnknownMatch() | Threshold() | ObjectRef(is_threshold=True):
            return None if run.oracle(place) else Verdict.CONTINUE
        case Update(key=key):
            return None if values.of(key) is not None and run.oracle(place) else Verdict.CONTINUE
        case Verdict() | Jump():
            return statement
        case Reject():
            return Verdict.DROP
        case VerdictMap(key, source):
            return _lookup_verdict(run, stop, values.of(key), map_elements(stop.table, source), key)
        case Assign(target, value):
            return _assign(run, values, target, value, place)
        case Nat():
            return _nat(run, statement, place)
        case Notrack():
            if run.early:
                run.now["ct state"] = 64
            return None
        case Duplicate() | Forward():
            run.copied |= stop.table.family is Family.NETDEV or run.oracle(f"{place}?copy")
            return Verdict.DROP if isinstance(statement, Forward) else None
        case Queue() | Synproxy():
            return Verdict.ACCEPT if run.oracle(f"{place}?accept") else Verdict.DROP
        case Unknown():
            return _unknown(run, place)
        case Neutral():
            return None
        case _:
            assert_never(statement)


def _not_understood(run: Run, stop: Stop, statement: Statement, place: str) -> Verdict | None:
    if isinstance(statement, VerdictMap):
        return _unknown(run, place) or Verdict.CONTINUE
    if isinstance(statement, Match) and not may_hold(run.values(stop.table), statement):
        return Verdict.CONTINUE
    return None if run.oracle(place) else Verdict.CONTINUE


def _unknown(run: Run, place: str) -> Verdict | None:
    for name in ("mark", "ct mark"):
        run.now[name] = run.packet.get(f"{name} at {place}", run.now.get(name, 0))
    if run.oracle(place + "?accept"):
        return Verdict.ACCEPT
    if run.oracle(place + "?drop"):
        return Verdict.DROP
    return None if run.oracle(place) else Verdict.CONTINUE


def _lookup_verdict(
    run: Run, stop: Stop, value: object, elements: tuple[tuple[object, object], ...] | None, key: object
) -> Verdict | Jump | None:
    if elements is None:
        raise NotUnderstoodError("the map's elements are not known")
    if value is None:
        return Verdict.CONTINUE
    found = run.values(stop.table).find(value, elements, key)
    return found if isinstance(found, Verdict | Jump) else Verdict.CONTINUE


def _assign(run: Run, values: Values, target: object, value: object, place: str) -> Verdict | None:
    try:
        load = load_of(target)
    except NotUnderstoodError:
        # Nothing that the audit computes with: a later match on it is not understood either.
        if changes_the_route(target, "", family_of(run)):
            run.now[ROUTED_ANEW] = 1
        return None
    if run.early and load.name.startswith("ct "):
        return None
    if not values.has(load):
        return Verdict.CONTINUE
    try:
        new = written(values, value, load)
    except NotUnderstoodError:
        new = run.packet.get(f"written {place}", 0)
    if new is None:
        return Verdict.CONTINUE
    run.now[load.name] = new
    if changes_the_route(target, load.name, family_of(run)):
        run.now[ROUTED_ANEW] = 1
    return None


def _nat(run: Run, nat: Nat, place: str) -> Verdict:
    """Translate and accept. What the rule does not say is the kernel's choice, a free field, or not known."""
    if run.now.get("nfproto", 0) not in concerns(nat):
        return Verdict.CONTINUE
    for each in to_write(nat):
        free = run.packet.get(f"nat {each.field}", 0)
        known = each.told or run.oracle(f"{place} {each.field}")
        run.now[each.field] = free if known and each.low <= int(free) <= each.high else each.low
    return Verdict.ACCEPT

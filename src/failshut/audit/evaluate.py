"""One packet through every base chain of its way: the verdict, the rule that decided, and the steps in between.

Apart from `symbolic` on purpose: each is the other's check. Source: nf_tables_core.c (nft_do_chain), netfilter/core.c
(nf_hook_slow), netfilter/nft_chain_route.c, netfilter/nf_nat_core.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from failshut.audit.concrete import Values, compare, may_hold, written
from failshut.audit.fields import load_of
from failshut.audit.nat import concerns, translated
from failshut.audit.nat import written as to_write
from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When
from failshut.audit.route import (
    DEEPEST_CALL,
    DEEPEST_JUMP,
    ROUTED_ANEW,
    Route,
    Stop,
    Way,
    called_place,
    changes_the_route,
    device_listed,
    map_elements,
)
from failshut.audit.words import ETHERTYPE, NEW, NFPROTO, RELATED, TRANSLATED, NotUnderstoodError, names_match
from failshut.model.ruleset import (
    Assign,
    ChainType,
    Duplicate,
    Family,
    Forward,
    Hook,
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

# What decides a statement that depends on more than the packet: by the place's name, whether it holds.
Oracle = Callable[[str], bool]
Packet = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Step:
    """A verdict: in which base chain, by which rule (`rule` is None for the policy) of which chain, called by which rules."""

    stop: Stop
    chain: str
    index: int
    rule: Rule | None
    accepted: bool
    calls: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a packet: `accepted` by every chain; the steps in order; what it was at last; a copy that went elsewhere."""

    accepted: bool
    steps: tuple[Step, ...]
    end: Packet
    start: Packet
    copied: bool = False

    @property
    def leaves(self) -> bool:
        """Whether the packet, or a copy of it, passed."""
        return self.accepted or self.copied


@dataclass(slots=True)
class _Run:
    """One packet on its way: its fields now, and which place of which chain is being looked at."""

    packet: Packet
    oracle: Oracle
    now: dict[str, int | str]
    steps: list[Step] = field(default_factory=list)
    copied: bool = False
    early: bool = False
    calls: list[Rule] = field(default_factory=list)

    def values(self, table: Table) -> Values:
        return Values(self.now, table, self.early)


def evaluate(route: Route, packet: Packet, oracle: Oracle = lambda _: True) -> Fate:
    """Send one packet along a route. A field that `packet` does not name is 0; `oracle` answers what no packet can."""
    now = dict(packet)
    if route.family:
        now["nfproto"], now["ethertype"] = NFPROTO[route.family], ETHERTYPE[route.family]
    else:
        now["nfproto"] = 0
    run = _Run(packet, oracle, now)
    run.now["oifname first"] = packet.get("oifname", "")
    run.now["ct status"] = int(packet.get("ct status", 0)) & ~route.never
    rerouted = False
    for hook, stops in route.hooks:
        _enter(run, route.way, hook, rerouted)
        accepted, moved = _hook(run, hook, stops)
        rerouted = rerouted or moved
        if not accepted:
            return _fate(run, False)
    if route.way is Way.OUTPUT:
        _enter(run, route.way, Hook.EGRESS, rerouted)
    return _fate(run, True)


def _fate(run: _Run, accepted: bool) -> Fate:
    return Fate(accepted, tuple(run.steps), dict(run.now), run.packet, run.copied)


def _enter(run: _Run, way: Way, hook: Hook, rerouted: bool) -> None:
    """Set the devices as the hook sees them. The output hook keeps its first device after a re-route; what comes later does not."""
    here, there = run.packet.get("iifname", ""), run.packet.get("oifname", "")
    last = run.packet.get("oifname rerouted", "") if rerouted else there
    local = run.packet.get("via", "") if way is Way.OUTPUT else here
    if hook is not Hook.EGRESS or "stage" not in run.now:
        run.now["stage"] = hook.value
    run.now["iifname"], run.now["oifname"] = {
        Hook.INGRESS: (here, ""),
        Hook.PREROUTING: (here, ""),
        Hook.INPUT: (here, ""),
        Hook.FORWARD: (here, there),
        Hook.OUTPUT: ("", there),
        Hook.POSTROUTING: (local, last),
        Hook.EGRESS: ("", last),
    }[hook]


def _hook(run: _Run, hook: Hook, stops: tuple[Stop, ...]) -> tuple[bool, bool]:
    """Call a hook's chains; return whether all of them accepted, and whether the packet was re-routed."""
    rerouted = nat_seen = False
    for stop in stops:
        if stop.is_nat and not nat_seen:
            nat_seen = True
            rerouted |= _known_connection(run, hook, stops)
        if not _is_called(run, stop):
            continue
        before = _routing(run)
        run.early = stop.early
        verdict = _base(run, stop)
        if verdict is not Verdict.ACCEPT:
            return False, rerouted
        changes_route = stop.base.type is ChainType.ROUTE or stop.is_nat
        rerouted |= hook is Hook.OUTPUT and changes_route and before != _routing(run)
    return True, rerouted


def _family(run: _Run) -> int:
    return next((family for family, number in NFPROTO.items() if family and number == run.now["nfproto"]), 0)


def _routing(run: _Run) -> tuple[object, ...]:
    name = {4: "ip", 6: "ip6"}.get(_family(run), "")
    return tuple(run.now.get(each, 0) for each in ("mark", f"{name} saddr", f"{name} daddr", ROUTED_ANEW))


def _known_connection(run: _Run, hook: Hook, stops: tuple[Stop, ...]) -> bool:
    """Translate a packet of a known connection as one of these chains' rules may have done when it began, or not at all."""
    made = translated(stops, _family(run), incoming=hook in (Hook.PREROUTING, Hook.OUTPUT))
    if not made:
        return False
    run.now["stage"] = f"{hook} translated"
    if _is_first(run) or run.now.get("ct state", 0) not in (2, 4, 8) or not int(run.now.get("ct status", 0)) & TRANSLATED:
        return False
    before = _routing(run)
    said = {one.field: int(run.packet.get(f"nat {one.field}", 0)) for each in made for one in each}
    fitting = [each for each in made if all(one.low <= said[one.field] <= one.high for one in each)]
    run.now |= {one.field: said[one.field] for each in fitting for one in each}
    return hook is Hook.OUTPUT and before != _routing(run)


def _is_first(run: _Run) -> bool:
    return bool(run.now.get("first", 0)) and run.now.get("ct state", 0) in (NEW, RELATED)


def _is_called(run: _Run, stop: Stop) -> bool:
    if stop.is_nat:
        return _is_first(run)
    if stop.on_devices:
        if not stop.base.device:
            return run.oracle(f"{_prefix(stop)}{stop.chain.name}?device")
        return device_listed(stop.base.device, str(run.now["iifname" if stop.hook is Hook.INGRESS else "oifname"]))
    return True


def _base(run: _Run, stop: Stop) -> Verdict:
    verdict = _chain(run, stop, stop.chain.name, stop.chain.name)
    if verdict is Verdict.CONTINUE:
        run.steps.append(Step(stop, stop.chain.name, -1, None, stop.base.policy is Verdict.ACCEPT))
        return stop.base.policy
    return verdict


def _chain(run: _Run, stop: Stop, name: str, place: str) -> Verdict:
    """Return ACCEPT, DROP, or CONTINUE when the chain ended without a verdict."""
    chain = stop.table.chain(name)
    if chain is None or place.count("/") > DEEPEST_JUMP or len(run.calls) > DEEPEST_CALL:
        return _anything(run, f"{_prefix(stop)}{place}", stop, name, -1, None)
    for index, rule in enumerate(chain.rules):
        verdict = _rule(run, stop, name, index, rule, f"{place}:{index}")
        if verdict is Verdict.RETURN:
            return Verdict.CONTINUE
        if verdict is not Verdict.CONTINUE:
            return verdict
    return Verdict.CONTINUE


def _prefix(stop: Stop) -> str:
    return f"{stop.table.engine}/{stop.table.family}/{stop.table.name}/{stop.hook}/"


def _rule(run: _Run, stop: Stop, name: str, index: int, rule: Rule, place: str) -> Verdict:  # noqa: PLR0917 - where it stands is five words
    """Return CONTINUE when the rule did not decide, RETURN when the chain ends."""
    for number, statement in enumerate(rule.statements):
        here = f"{place}.{number}"
        try:
            verdict = _statement(run, stop, statement, here)
        except NotUnderstoodError:
            verdict = _not_understood(run, stop, statement, _prefix(stop) + here)
        match verdict:
            case None:
                continue
            case Verdict.ACCEPT | Verdict.DROP:
                run.steps.append(Step(stop, name, index, rule, verdict is Verdict.ACCEPT, tuple(run.calls)))
                return verdict
            case Jump(target, goto):
                run.calls.append(rule)
                inner = _chain(run, stop, target, called_place(here, target, goto=goto))
                run.calls.pop()
                if inner is not Verdict.CONTINUE:
                    return inner
                if goto:
                    return Verdict.RETURN
                return Verdict.CONTINUE
            case _:
                return verdict
    return Verdict.CONTINUE


def _not_understood(run: _Run, stop: Stop, statement: Statement, place: str) -> Verdict | None:
    if isinstance(statement, VerdictMap):
        return _unknown(run, place) or Verdict.CONTINUE
    if isinstance(statement, Match) and not may_hold(run.values(stop.table), statement):
        return Verdict.CONTINUE
    return None if run.oracle(place) else Verdict.CONTINUE


def _anything(run: _Run, place: str, stop: Stop, name: str, index: int, rule: Rule | None) -> Verdict:  # noqa: PLR0917 - where it stands is five words
    """Return whatever the oracle says of something that could not be followed."""
    if run.oracle(place + "?accept"):
        run.steps.append(Step(stop, name, index, rule, True))
        return Verdict.ACCEPT
    if run.oracle(place + "?drop"):
        run.steps.append(Step(stop, name, index, rule, False))
        return Verdict.DROP
    return Verdict.CONTINUE


def _statement(run: _Run, stop: Stop, statement: Statement, place: str) -> Verdict | Jump | None:  # noqa: PLR0911, PLR0912, C901 - one line a kind
    """Return a verdict, or None to go on; CONTINUE ends the rule. Raises NotUnderstoodError."""
    values = run.values(stop.table)
    match statement:
        case Match():
            return None if compare(values, statement) else Verdict.CONTINUE
        case UnknownMatch() | Threshold() | ObjectRef(is_threshold=True):
            return None if run.oracle(_prefix(stop) + place) else Verdict.CONTINUE
        case Update(key=key):
            return None if values.of(key) is not None and run.oracle(_prefix(stop) + place) else Verdict.CONTINUE
        case Verdict() | Jump():
            return statement
        case Reject():
            return Verdict.DROP
        case VerdictMap(key, source):
            return _lookup_verdict(run, stop, values.of(key), map_elements(stop.table, source), key)
        case Assign(target, value):
            return _assign(run, values, target, value, _prefix(stop) + place)
        case Nat():
            return _nat(run, statement, _prefix(stop) + place)
        case Notrack():
            if run.early:
                run.now["ct state"] = 64
            return None
        case Duplicate() | Forward():
            run.copied |= stop.table.family is Family.NETDEV or run.oracle(f"{_prefix(stop)}{place}?copy")
            return Verdict.DROP if isinstance(statement, Forward) else None
        case Queue() | Synproxy():
            return Verdict.ACCEPT if run.oracle(_prefix(stop) + place + "?accept") else Verdict.DROP
        case Unknown():
            return _unknown(run, _prefix(stop) + place)
        case Neutral():
            return None
        case _:
            assert_never(statement)


def _unknown(run: _Run, place: str) -> Verdict | None:
    for name in ("mark", "ct mark"):
        run.now[name] = run.packet.get(f"{name} at {place}", run.now.get(name, 0))
    if run.oracle(place + "?accept"):
        return Verdict.ACCEPT
    if run.oracle(place + "?drop"):
        return Verdict.DROP
    return None if run.oracle(place) else Verdict.CONTINUE


def _lookup_verdict(
    run: _Run, stop: Stop, value: object, elements: tuple[tuple[object, object], ...] | None, key: object
) -> Verdict | Jump | None:
    if elements is None:
        raise NotUnderstoodError("the map's elements are not known")
    if value is None:
        return Verdict.CONTINUE
    found = run.values(stop.table).find(value, elements, key)
    return found if isinstance(found, Verdict | Jump) else Verdict.CONTINUE


def _assign(run: _Run, values: Values, target: object, value: object, place: str) -> Verdict | None:
    try:
        load = load_of(target)
    except NotUnderstoodError:
        # Nothing that the audit computes with: a later match on it is not understood either.
        if changes_the_route(target, "", _family(run)):
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
    if changes_the_route(target, load.name, _family(run)):
        run.now[ROUTED_ANEW] = 1
    return None


def _nat(run: _Run, nat: Nat, place: str) -> Verdict:
    """Translate and accept. What the rule does not say is the kernel's choice, a free field, or not known."""
    if run.now.get("nfproto", 0) not in concerns(nat):
        return Verdict.CONTINUE
    for each in to_write(nat):
        free = run.packet.get(f"nat {each.field}", 0)
        known = each.told or run.oracle(f"{place} {each.field}")
        run.now[each.field] = free if known and each.low <= int(free) <= each.high else each.low
    return Verdict.ACCEPT


def holds(predicate: Predicate, fate: Fate) -> bool:
    """Whether a question's condition is true of a packet and of what became of it."""
    match predicate:
        case All(parts):
            return all(holds(each, fate) for each in parts)
        case Some(parts):
            return any(holds(each, fate) for each in parts)
        case Not(part):
            return not holds(part, fate)
        case FieldIn(name, _, values):
            return fate.start.get(name, 0) in values
        case DeviceIs(name, names):
            return any(names_match(each, str(fate.start.get(name, ""))) for each in names)
        case Is(match, when):
            packet = dict(fate.end) if when is When.END else {**fate.end, **fate.start, "stage": ""}
            return compare(Values(packet, None), match)
